"""The exported file in OpenVINO."""

from __future__ import annotations

import sys

import pytest

# It reports its use to its maker, by a fork of this process with all its threads: OpenVINO does without a module that cannot be imported.
sys.modules["openvino_telemetry"] = None
openvino = pytest.importorskip("openvino", reason="openvino is not installed (extra `test`)")

# By default OpenVINO computes in bfloat16 where the processor can; the contract is about float32.
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def compiled(path, settings=EXACT):
    return openvino.Core().compile_model(str(path), "CPU", settings)


@pytest.mark.parametrize("backbone", ["resnet38", "mobilenetv2", "vgg16"])
def test_masks_are_those_of_keras(exported, backbone):
    made = exported(backbone)
    model = compiled(made.path)
    assert [str(size) for size in model.input("images").partial_shape] == ["?", "?", "?", "3"]
    made.check("openvino", [model(images)["mask"] for images in made.batches])


def test_int8_gives_nearly_the_masks_of_onnxruntime(exported, int8_file):
    path, expected = int8_file
    model = compiled(path)
    for images, other in zip(exported("mobilenetv2").batches, expected, strict=True):
        assert (model(images)["mask"] == other).mean() > 0.95
