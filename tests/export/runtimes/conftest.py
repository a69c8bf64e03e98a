"""One exported file per backbone, and what Keras says about a few images."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tfwsss.export import export_onnx
from tfwsss.export.parity import TOLERANCE
from tfwsss.export.parity_keras import Comparison, Reference

# (batch, height, width). Both sides 1 more than a multiple of 16, odd, and even: MobileNets pad by the parity of each map.
SHAPES = ((1, 65, 97), (2, 33, 47), (3, 64, 50))


@pytest.fixture(scope="session")
def exported(made, photo, tmp_path_factory):
    """exported(backbone) -> its fp32 `path`, image batches, and check(name, masks), which applies the parity rule."""
    cache = {}

    def make(backbone: str) -> SimpleNamespace:
        if backbone not in cache:
            segmenter, folder = made(backbone), tmp_path_factory.mktemp(backbone)
            batches = [np.stack([photo(height, width, seed) for seed in range(batch)]) for batch, height, width in SHAPES]
            reference = Reference(segmenter.model, segmenter.arguments["normalization"], [1.0], False)
            logits = [reference(images)[0] for images in batches]

            def check(name: str, masks: list[np.ndarray]) -> None:
                comparison = Comparison(name, TOLERANCE)
                for images, expected, mask in zip(batches, logits, masks, strict=False):
                    comparison.masks(f"images of shape {images.shape}", expected, mask)
                assert comparison.result()["images"] == sum(batch for batch, _, _ in SHAPES[: len(masks)])

            path = export_onnx(segmenter.model, folder / "model.onnx", **segmenter.arguments)
            cache[backbone] = SimpleNamespace(path=path, batches=batches, check=check, segmenter=segmenter)
        return cache[backbone]

    return make


@pytest.fixture(scope="session")
def int8_file(exported, tmp_path_factory):
    """An int8 file, and the masks that onnxruntime gives for the batches of its backbone."""
    import onnxruntime

    made = exported("mobilenetv2")
    path = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    calibration = [image for images in made.batches for image in images]
    export_onnx(made.segmenter.model, path, precision="int8", calibration_images=calibration, **made.segmenter.arguments)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return path, [session.run(["mask"], {"images": images})[0] for images in made.batches]
