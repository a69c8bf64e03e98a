"""A switch for how layers are traced: for TensorFlow itself, or to be converted to another format.

Some operations have two forms of the same value: one that TensorFlow runs well and every gradient exists for, and one
that a converter turns into few nodes that other runtimes run well.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

_CONVERTING = ContextVar("tfwsss_converting", default=False)


@contextmanager
def conversion():
    """Within this context layers are traced in the form that converts well.

    For graphs that are traced inside the context and converted to another format. Do not train or serve them with
    TensorFlow: for some operations the CPU kernel or the gradient is missing, or silently wrong (see
    `tfwsss.models.dilation`).
    """
    token = _CONVERTING.set(True)
    try:
        yield
    finally:
        _CONVERTING.reset(token)


def is_converting() -> bool:
    """Whether this is inside `conversion`."""
    return _CONVERTING.get()
