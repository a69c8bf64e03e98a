"""Stopping a run from another thread: ONNX Runtime looks at a flag between two operations."""

import onnxruntime

from .errors import Cancelled


class Cancellation:
    """Give it to a run and call `cancel` from another thread; the run then raises `Cancelled` soon after.

    One object serves one call (which may be many runs: tiles, groups). Before or after the run `cancel` does no harm.

    Args:
        return_memory: ONNX Runtime gives the memory of each run back to the system, instead of keeping it for the next.
    """

    def __init__(self, *, return_memory: bool = False):
        self.run_options = onnxruntime.RunOptions()
        if return_memory:
            self.run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._cancelled = False

    def cancel(self) -> None:
        """Stop the run. May be called from any thread, more than once."""
        self._cancelled = True
        self.run_options.terminate = True

    def check(self) -> None:
        """Raise `Cancelled` if `cancel` was called."""
        if self._cancelled:
            raise Cancelled("the run was cancelled")
