"""Start of TensorFlow: with oneDNN's kernels, without its start-up messages, which no log level silences and which hide our own."""

import os
import sys
import tempfile


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
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
        except BaseException:
            messages.seek(0)
            os.write(kept, messages.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
