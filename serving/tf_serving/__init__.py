"""Client of a segmenter in TensorFlow Serving, over gRPC or REST; needs nothing of TensorFlow."""

from .errors import (
    AnswerError,
    DeadlineError,
    InputError,
    ModelNotFoundError,
    RefusedError,
    ServerError,
    TfServingError,
    TooLargeError,
    UnavailableError,
)
from .grpc_client import GrpcClient
from .rest_client import RestClient
from .retry import Retry

__all__ = [
    "AnswerError",
    "DeadlineError",
    "GrpcClient",
    "InputError",
    "ModelNotFoundError",
    "RefusedError",
    "RestClient",
    "Retry",
    "ServerError",
    "TfServingError",
    "TooLargeError",
    "UnavailableError",
]
