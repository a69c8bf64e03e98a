"""A server with TensorFlow Serving's two interfaces that executes the signatures of real SavedModels, on the loopback interface.

gRPC uses tensorflow-serving-api's own services and messages; REST follows TensorFlow Serving's documented JSON format. Faults
can be switched on: refusals, delays, broken answers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_HTTP = {3: 400, 4: 504, 5: 404, 8: 429, 9: 412, 14: 503}  # gRPC's codes as HTTP's
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict)?")


class Failure(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class ModelServer:
    """Serves all versions below `base_path` as `name`.

    Attributes, all free to change while it runs:
        unavailable: so many next predictions are refused as UNAVAILABLE.
        delay: seconds before each prediction.
        broken: None, or the bytes that are the body of every REST answer, or "drop": the connection is cut.
        calls: predictions that have come in, by transport, signature and version.
    """

    def __init__(self, base_path, name: str, labels: dict[str, int]):
        self.name, self.labels = name, labels
        self.versions = {int(path.name): tf.saved_model.load(str(path)) for path in Path(base_path).iterdir()}
        self.unavailable, self.delay, self.broken, self.calls = 0, 0.0, None, []
        self._lock = threading.Lock()

    def choose(self, name: str, version: int | None, label: str | None) -> int:
        if name != self.name or (version is not None and version not in self.versions):
            raise Failure(5, f"Servable not found for request: {name}")
        if label and label not in self.labels:
            raise Failure(3, f"Unrecognized servable version label: {label}")
        return version if version is not None else self.labels[label] if label else max(self.versions)

    def predict(self, transport: str, name: str, version: int | None, label: str | None, signature: str, inputs: dict) -> tuple[int, dict]:
        """Inputs and outputs are arrays; strings are arrays of objects."""
        chosen = self.choose(name, version, label)
        with self._lock:
            self.calls.append((transport, signature, chosen))
            refused = self.unavailable > 0
            self.unavailable -= refused
        time.sleep(self.delay)
        if refused:
            raise Failure(14, "not now")
        functions = self.versions[chosen].signatures
        if signature not in functions:
            raise Failure(3, f'Serving signature key "{signature}" not found.')
        specs = functions[signature].structured_input_signature[1]
        try:
            tensors = {key: tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()}
            return chosen, {key: value.numpy() for key, value in functions[signature](**tensors).items()}
        except tf.errors.OpError as error:
            raise Failure(error.error_code, error.message) from None
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(3, str(error)) from None


class _Grpc(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server: ModelServer):
        self._server = server

    def _spec(self, spec) -> tuple:
        return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label

    def Predict(self, request, context):
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        try:
            version, outputs = self._server.predict("grpc", *self._spec(request.model_spec), request.model_spec.signature_name or "serving_default", inputs)
        except Failure as failure:
            context.abort(next(code for code in grpc.StatusCode if code.value[0] == failure.code), str(failure))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = self._server.name, version
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer

    def GetModelStatus(self, request, context):
        name, version, label = self._spec(request.model_spec)
        try:
            chosen = self._server.choose(name, version, label)
        except Failure as failure:
            context.abort(next(code for code in grpc.StatusCode if code.value[0] == failure.code), str(failure))
        wanted = sorted(self._server.versions) if version is None and not label else [chosen]
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[{"version": number, "state": "AVAILABLE"} for number in wanted])


def _jsonable(name: str, value: np.ndarray):
    if value.dtype == object:
        assert name.endswith("_bytes"), "strings that are binary need the suffix _bytes"
        return [{"b64": base64.b64encode(item).decode()} for item in value]
    return value.tolist()


class _Rest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model_server: ModelServer

    def log_message(self, *_):
        pass

    def _answer(self, code: int, body) -> None:
        broken = self.model_server.broken
        if broken == "drop":
            self.close_connection = True
            return
        text = json.dumps(body).encode() if broken is None else broken
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _run(self, work) -> None:
        found = _PATH.fullmatch(self.path)
        try:
            if not found:
                raise Failure(5, f"Malformed request: {self.command} {self.path}")
            self._answer(200, work(found[1], int(found[2]) if found[2] else None, found[3]))
        except Failure as failure:
            self._answer(_HTTP.get(failure.code, 500), {"error": str(failure)})

    def do_GET(self):
        def status(name, version, label):
            chosen = self.model_server.choose(name, version, label)
            wanted = sorted(self.model_server.versions) if version is None and not label else [chosen]
            return {"model_version_status": [{"version": str(number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}} for number in wanted]}

        self._run(status)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def predict(name, version, label):
            columns = body["inputs"]
            inputs = {key: [base64.b64decode(item["b64"]) for item in value] if isinstance(value[0], dict) else np.array(value, object) for key, value in columns.items()}
            inputs = {key: value if isinstance(value, list) else value.tolist() for key, value in inputs.items()}
            _, outputs = self.model_server.predict("rest", name, version, label, body.get("signature_name", "serving_default"), inputs)
            values = {key: _jsonable(key, value) for key, value in outputs.items()}
            return {"outputs": values if len(values) > 1 else next(iter(values.values()))}

        self._run(predict)


@contextlib.contextmanager
def running(server: ModelServer, max_message_bytes: int = -1):
    """Yield ("127.0.0.1:port" of gRPC, "http://127.0.0.1:port" of REST) while both run."""
    grpc_server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", max_message_bytes), ("grpc.max_send_message_length", -1)])
    servicer = _Grpc(server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, grpc_server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    rest = ThreadingHTTPServer(("127.0.0.1", 0), type("Rest", (_Rest,), {"model_server": server}))
    rest.daemon_threads = True
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{rest.server_port}"
    finally:
        rest.shutdown()
        rest.server_close()
        grpc_server.stop(None).wait()
