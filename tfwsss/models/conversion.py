"""A switch for how layers are traced: for TensorFlow itself, or to be converted to another format.

Some operations have two forms of the same value: one that TensorFlow runs well and every gradient exists for, and one
that a converter turns into few nodes that other runtimes run well.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

_CONVERTING = ContextVar("tfwsss_converting", default=False)
_CHANNELS_LAST = ContextVar("tfwsss_channels_last", default=False)


@contextmanager
def conversion(channels_last: bool = False):
    """Within this context layers are traced in the form that converts well.

    Args:
        channels_last: the runtime keeps maps with channels last (8-bit maps on CPUs) and not first (float maps).

    For graphs that are traced inside the context and converted to another format. Do not train or serve them with
    TensorFlow: for some operations the CPU kernel or the gradient is missing, or silently wrong (see
    `tfwsss.models.dilation`).
    """
    tokens = _CONVERTING.set(True), _CHANNELS_LAST.set(channels_last)
    try:
        yield
    finally:
        _CONVERTING.reset(tokens[0])
        _CHANNELS_LAST.reset(tokens[1])


def is_converting() -> bool:
    """Whether this is inside `conversion`."""
    return _CONVERTING.get()


def has_channels_last() -> bool:
    """Whether the runtime that is converted for keeps channels last."""
    return _CHANNELS_LAST.get()
