"""Runs an ONNX file in a fresh process in which TensorFlow cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfwsss.errors import ExportError

_SCRIPT = Path(__file__).with_name("onnx_process.py")


def run_fresh(path, folder) -> Iterator[dict[str, np.ndarray]]:
    """Run an ONNX segmenter on FOLDER/case_*.npz (key `images` uint8 [B, H, W, 3]), on the CPU.

    Returns:
        The model's outputs by name for each case, in the order of the files' names; read one by one.

    Raises:
        ExportError: the file cannot be loaded or run without TensorFlow.
    """
    # -I: neither the script's folder nor PYTHONPATH can bring anything in.
    done = subprocess.run([sys.executable, "-I", str(_SCRIPT), str(path), str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise ExportError(f"{path}: does not run without TensorFlow: {done.stderr.strip()[-2000:]}")
    return _outputs(sorted(Path(folder).glob("onnx_*.npz")))


def _outputs(files: list[Path]) -> Iterator[dict[str, np.ndarray]]:
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            outputs = dict(arrays)
        file.unlink()
        yield outputs
