"""The exported file in JavaScript: ONNX Runtime for Node.js and its WebAssembly build, the one browsers run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent / "node"
PACKAGES = ("onnxruntime-node", "onnxruntime-web")


def run(package: str, model: Path, batches: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (HERE / "node_modules" / package).is_dir():
        pytest.skip(f"{package} is not installed: npm ci --ignore-scripts --prefix tests/export/runtimes/node")
    for number, images in enumerate(batches):
        (folder / f"{number}.json").write_text(json.dumps(images.shape))
        (folder / f"{number}.images").write_bytes(images.tobytes())
    done = subprocess.run(["node", str(HERE / "run.mjs"), package, str(model), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [np.frombuffer((folder / f"{number}.mask").read_bytes(), np.uint8).reshape(images.shape[:3]) for number, images in enumerate(batches)]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("backbone", ["resnet38", "mobilenetv2", "vgg16"])
def test_masks_are_those_of_keras(exported, tmp_path, backbone, package):
    made = exported(backbone)
    made.check(package, run(package, made.path, made.batches, tmp_path))


@pytest.mark.parametrize("package", PACKAGES)
def test_int8_gives_the_masks_of_onnxruntime(exported, int8_file, tmp_path, package):
    path, expected = int8_file
    for mask, other in zip(run(package, path, exported("mobilenetv2").batches, tmp_path), expected, strict=True):
        assert (mask == other).mean() > 0.98  # integer kernels of other processors round sums elsewhere
