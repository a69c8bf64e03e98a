"""TensorFlow Serving over gRPC: arrays and files travel as bytes."""

from __future__ import annotations

import grpc

from .client import SIGNATURES, Client
from .errors import (
    AnswerError,
    DeadlineError,
    ModelNotFoundError,
    RefusedError,
    ServerError,
    TooLargeError,
    UnavailableError,
)
from .messages import STATES, GetModelStatusRequest, GetModelStatusResponse, PredictRequest, PredictResponse
from .tensors import from_proto, to_proto

_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT: RefusedError,
    grpc.StatusCode.OUT_OF_RANGE: RefusedError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: ModelNotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooLargeError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}
_KEEPALIVE_MS = 30_000


class GrpcClient(Client):
    """Client over gRPC; one channel, safe to share between threads.

    Args:
        address: "host:port".
        credentials: of `grpc.ssl_channel_credentials`, or None for a connection in the clear.
        Others: see `Client`.
    """

    def __init__(self, address: str, model: str = "segmenter", *, credentials: grpc.ChannelCredentials | None = None, **arguments):
        super().__init__(address, model, **arguments)
        options = [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.enable_retries", 0),  # Retry does it, the same way for both transports
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ]
        self._channel = grpc.insecure_channel(address, options) if credentials is None else grpc.secure_channel(address, credentials, options)
        self._predict_call = self._unary("PredictionService/Predict", PredictRequest, PredictResponse)
        self._status_call = self._unary("ModelService/GetModelStatus", GetModelStatusRequest, GetModelStatusResponse)

    def close(self) -> None:
        self._channel.close()

    def status(self) -> dict[int, str]:
        request = GetModelStatusRequest()
        self._name_model(request.model_spec)
        answer = self._send(self._status_call, request)
        return {entry.version: STATES.get(entry.state, str(entry.state)) for entry in answer.model_version_status}

    def _predict(self, signature: str, value):
        input_name, output_name, _ = SIGNATURES[signature]
        request = PredictRequest()
        self._name_model(request.model_spec)
        request.model_spec.signature_name = signature
        request.inputs.add(key=input_name, value=to_proto(value))
        outputs = {entry.key: entry.value for entry in self._send(self._predict_call, request).outputs}
        if output_name not in outputs:
            raise AnswerError(f"{self.address}: outputs {sorted(outputs)}, expected {output_name}")
        return from_proto(outputs[output_name], f"{self.address}: {output_name}")

    def _unary(self, method: str, request, response):
        return self._channel.unary_unary(f"/tensorflow.serving.{method}", request_serializer=request.SerializeToString, response_deserializer=response.FromString)

    def _name_model(self, spec) -> None:
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label

    def _send(self, call, request):
        size = request.ByteSize()
        if size > self.max_message_bytes:
            raise TooLargeError(f"{self.address}: the request has {size} bytes, max_message_bytes is {self.max_message_bytes}")

        def attempt(seconds: float):
            try:
                return call(request, timeout=seconds)
            except grpc.RpcError as error:
                kind = _ERRORS.get(error.code(), ServerError)
                raise kind(f"{self.address}: {error.code().name}: {error.details()}") from None

        return self.retry.call(attempt)
