"""A switch for how layers are traced: for TensorFlow itself, or to be converted to another format.

Some operations have two forms of the same value: one that TensorFlow runs well and every gradient exists for, and one
that a converter turns into few nodes that other runtimes run well.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

# None: for TensorFlow; else where the runtime that is converted for keeps the channels.
_CHANNELS: ContextVar[Literal["first", "last"] | None] = ContextVar("tfwsss_channels", default=None)


@contextmanager
def conversion(channels_last: bool = False):
    """Within this context layers are traced in the form that converts well.

    For graphs that are traced inside the context and converted to another format. Do not train or serve them with
    TensorFlow: for some operations the CPU kernel or the gradient is missing, or silently wrong (see
    `tfwsss.models.dilation`).

    Args:
        channels_last: the runtime keeps maps with channels last (8-bit maps on CPUs) and not first (float maps).
    """
    token = _CHANNELS.set("last" if channels_last else "first")
    try:
        yield
    finally:
        _CHANNELS.reset(token)


def is_converting() -> bool:
    """Whether this is inside `conversion`."""
    return _CHANNELS.get() is not None


def has_channels_last() -> bool:
    """Whether the runtime that is converted for keeps channels last."""
    return _CHANNELS.get() == "last"
