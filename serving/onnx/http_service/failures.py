"""Failures of a request and the status each is answered with.

They are no `SegmenterError`: a program that embeds the runtime never sees them, and they say nothing about photo or model.
"""

from __future__ import annotations

from ..errors import Cancelled, ImageError, ImageSizeError


class RequestError(Exception):
    """A request cannot be answered with a mask. The message is what the client reads."""

    status = 400


class UnknownModel(RequestError):
    """No model of this name or version here."""

    status = 404


class UnsupportedMediaType(RequestError):
    """The body is of a kind that is not read."""

    status = 415


class BodyTooLarge(RequestError):
    """The body, or a part of it, is longer than the limit."""

    status = 413


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    status = 408


class Busy(RequestError):
    """The queue or the memory for requests is full, or the model is not ready yet."""

    status = 503


class TooSlow(RequestError):
    """The masks were not ready in time."""

    status = 504


def status_of(error: Exception) -> int | None:
    """The HTTP status of an expected failure, None for any other exception."""
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, Cancelled):
        return 504
    if isinstance(error, ImageError):
        return 413 if isinstance(error, ImageSizeError) else 400
    return None
