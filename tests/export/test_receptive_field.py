"""The reported reach against what the network really looks at."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH


def network(pool: bool = False):
    """Every kind of layer that moves the view: strides, padding before, dilation, pooling, resizing; positive weights."""
    keras.utils.set_random_seed(5)
    positive = keras.initializers.RandomUniform(0.1, 1.0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.ZeroPadding2D(2)(inputs)
    x = keras.layers.Conv2D(2, 5, strides=2, kernel_initializer=positive)(x)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", depthwise_initializer=positive)(x)
    x = keras.layers.ZeroPadding2D(3)(x)
    x = keras.layers.Conv2D(2, 3, dilation_rate=3, kernel_initializer=positive)(x)
    if pool:
        x = x + keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, keras.layers.Conv2D(2, 1, kernel_initializer=positive)(x))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_onnx(network(), tmp_path_factory.mktemp("rf") / "m.onnx", class_names=("a",), normalization=TORCH, outputs=("mask",))


def test_no_pixel_beyond_the_reach_matters_and_the_reach_is_tight(exported):
    found = json.loads({entry.key: entry.value for entry in onnx.load(exported).metadata_props}["receptive_field"])
    assert found["stride"] == 4
    reach = found["reach"]
    # The class decision hides small influences: read the resized scores themselves.
    model = onnx.load(exported)
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    model.graph.output.append(onnx.ValueInfoProto(name=resize.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = 128
    base = np.full((1, size, size, 3), 100, np.uint8)

    def seen_from(row: int) -> np.ndarray:
        changed = base.copy()
        changed[0, row] = 250
        outputs = [session.run([resize.output[0]], {"images": image})[0] for image in (base, changed)]
        return np.flatnonzero(np.abs(outputs[0] - outputs[1]).max(axis=(0, 1, 3)) > 0)

    farthest = max(np.abs(seen_from(row) - row).max() for row in range(48, 80))
    assert farthest <= reach <= farthest + 4


def test_image_pooling_looks_at_the_whole_photo(tmp_path):
    path = export_onnx(network(pool=True), tmp_path / "m.onnx", class_names=("a",), normalization=TORCH)
    assert json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["receptive_field"]) == {"stride": 4, "reach": None}
