"""Stopping a run from another thread: ONNX Runtime looks at a flag between two operations."""

import onnxruntime

from .errors import Cancelled


class Cancellation:
    """Give it to a run and call `cancel` from another thread; the run then raises `Cancelled` soon after.

    One object serves one call (which may be many runs: tiles, groups). Before or after the run `cancel` does no harm.
    """

    def __init__(self):
        self.run_options = onnxruntime.RunOptions()
        self._cancelled = False

    def cancel(self) -> None:
        """Stop the run. May be called from any thread, more than once."""
        self._cancelled = True
        self.run_options.terminate = True

    def check(self) -> None:
        """Raise `Cancelled` if `cancel` was called."""
        if self._cancelled:
            raise Cancelled("the run was cancelled")
