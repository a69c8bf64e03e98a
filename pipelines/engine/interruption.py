"""Ctrl-C, SIGTERM and SIGHUP end a run alike: its MLflow runs are closed, and a message says how it goes on."""

from __future__ import annotations

import contextlib
import signal
import threading

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """A signal asked this process to end. No KeyboardInterrupt, which other packages catch and answer their way.

    Attributes:
        signal: which.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextlib.contextmanager
def interruptible():
    """Within this context the first of the signals raises `Interrupted`; the next one does what it would do without us.

    Signals that are ignored, as under nohup, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    mine = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]

    def restore():
        for number in mine:
            signal.signal(number, before[number])

    def end(number, frame):
        restore()
        raise Interrupted(number)

    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        restore()


@contextlib.contextmanager
def ends_at_once():
    """Within this context the signals end the process without a word, also in the middle of a call that Python waits for: for
    a process that leaves nothing to close, such as a worker that waits for the chief inside TensorFlow. Ignored ones stay ignored."""
    before = {number: signal.getsignal(number) for number in ENDING}
    mine = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in mine:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
