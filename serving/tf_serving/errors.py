"""Typed errors of the client, the same for gRPC and REST. Messages name the server's address and what it said."""


class TfServingError(Exception):
    """Base class."""


class InputError(TfServingError):
    """An argument has the wrong type or shape; nothing was sent."""


class RefusedError(TfServingError):
    """The server finds the request wrong: a file that is no JPEG or PNG, is damaged or larger than the model's limit, an unknown label."""


class ModelNotFoundError(TfServingError):
    """The server has no such model or version, or has not loaded it yet."""


class TooLargeError(TfServingError):
    """The request or the answer is larger than `max_message_bytes`, or than the server takes."""


class DeadlineError(TfServingError):
    """No answer before the deadline, retries included."""


class UnavailableError(TfServingError):
    """The server cannot be reached or is not ready; raised when the attempts are used up."""


class ServerError(TfServingError):
    """The server failed in another way."""


class AnswerError(TfServingError):
    """The answer is not what the model's signature promises."""
