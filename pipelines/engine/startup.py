"""Start of TensorFlow: with oneDNN's kernels, without what Keras imports for others, and without start-up messages that no log level silences."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

# MLflow brings them, and Keras imports what it finds, for wrappers and plots of its own: a third of the time that a start takes.
_FOR_OTHERS = ("matplotlib", "matplotlib.pyplot", "pandas", "sklearn")


@contextlib.contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Packages that are not imported yet seem not to be installed inside the context."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is Python's mark for a module that must not be imported
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def load_tensorflow() -> None:
    """Import TensorFlow and find its devices. What it writes to standard error appears only if that fails."""
    if "tensorflow" in sys.modules:
        return
    # TensorFlow leaves them off on processors without 8-bit instructions, where they are faster, too (docs/performance.md).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), 2)
        try:
            with _hidden(_FOR_OTHERS):
                import keras  # noqa: F401
                import tensorflow as tf
            tf.config.list_physical_devices("GPU")
        except BaseException:
            messages.seek(0)
            os.write(kept, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
