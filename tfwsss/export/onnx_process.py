"""Runs an ONNX segmenter on prepared arrays in a Python that has no TensorFlow: started by path, never imported.

    python -I onnx_process.py MODEL FOLDER

For each FOLDER/case_*.npz (key `images` uint8 [B, H, W, 3]) writes FOLDER/onnx_*.npz with the model's outputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

_BLOCKED = ("tensorflow", "keras", "tfwsss", "tf2onnx", "jax", "torch")


class _Block:
    """Makes the imports fail even where the packages are installed: the exported file must not need them."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in _BLOCKED:
            raise ImportError(f"{name} is blocked: an ONNX export runs without it")


def main(model: str, folder: str) -> None:
    sys.meta_path.insert(0, _Block)
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for case in sorted(Path(folder).glob("case_*.npz")):
        with np.load(case, allow_pickle=False) as arrays:
            results = session.run(names, {"images": arrays["images"]})
        outputs = dict(zip(names, results, strict=True))
        np.savez(case.with_name(case.name.replace("case_", "onnx_")), **outputs)
    loaded = [name for name in _BLOCKED if name in sys.modules]
    if loaded:
        raise SystemExit(f"{loaded} were imported before they could be blocked")


if __name__ == "__main__":
    main(*sys.argv[1:])
