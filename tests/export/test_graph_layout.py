"""Changes of the graph's form leave its results as they are, and make the form that they promise."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tfwsss.export import export_onnx
from tfwsss.export.graph_layout import align_depthwise, own_biases, scores_by_matmul
from tfwsss.export.precision import to_int8
from tfwsss.models import build_segmenter, normalization
from tfwsss.normalization import CAFFE_VGG16, SYMMETRIC, TORCH


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"images": images})[0]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, photo) -> tuple[onnx.ModelProto, np.ndarray]:
    """MobileNet at half width with batch normalisation folded: its decoder has 152 channels. And photos."""
    keras.utils.set_random_seed(2)
    model = build_segmenter("mobilenet", 3, width=0.5, output_stride=16, batch_norm="train")
    path = tmp_path_factory.mktemp("decoder") / "m.onnx"
    names = ("cat", "dog", "horse")
    export_onnx(model, path, class_names=names, normalization=normalization("mobilenet"), outputs=("scores",))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path.with_name("folded.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(path.with_name("folded.onnx")), np.stack([photo(49, 75, seed) for seed in range(2)])


def groups(model: onnx.ModelProto) -> set[int]:
    return {item.i for node in model.graph.node if node.op_type == "Conv" for item in node.attribute if item.name == "group"}


def test_aligned_channels_give_the_same_scores(decoder):
    model, images = decoder
    expected = run(model, images)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    assert 152 in groups(model) and align_depthwise(changed) == 1
    assert 160 in groups(changed) and not [group for group in groups(changed) - {1} if group % 16]
    onnx.checker.check_model(changed, full_check=True)
    np.testing.assert_allclose(run(changed, images), expected, atol=1e-6)
    assert align_depthwise(changed) == 0


def test_scores_by_matmul_are_the_same_scores(decoder):
    model, images = decoder
    expected = run(model, images)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    assert scores_by_matmul(changed) == ["score/channels_last", "score/matmul"]
    onnx.checker.check_model(changed, full_check=True)
    np.testing.assert_allclose(run(changed, images), expected, atol=1e-6)


def test_int8_is_one_island_without_the_sizes_and_with_scores_in_float32(decoder):
    model, images = decoder
    quantized = to_int8(model, list(images), "minmax")
    operations = {node.name: node.op_type for node in quantized.graph.node}
    sources = {name: node for node in quantized.graph.node for name in node.output}
    readers = {name: node for node in quantized.graph.node for name in node.input}
    for node in quantized.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert [sources[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2, node.name
    assert readers[next(node for node in quantized.graph.node if node.op_type == "MatMul").output[0]].op_type != "QuantizeLinear"
    assert "QuantizeLinear" not in {sources[node.input[0]].op_type for node in quantized.graph.node if node.op_type == "Shape" and node.input[0] in sources}
    # What is left of them is in the convolutions; older converters reshape the one pooled cell before its normalisation.
    assert not {"Clip", "BatchNormalization"} & {kind for name, kind in operations.items() if "aspp_pool" not in name}


@pytest.mark.parametrize("colours", [TORCH, CAFFE_VGG16, SYMMETRIC])
def test_normalization_is_elementwise_and_channels_first(tiny_model, tmp_path, colours):
    path = export_onnx(tiny_model, tmp_path / "m.onnx", class_names=("cat", "dog", "horse"), normalization=colours, outputs=("scores",))
    graph = onnx.load(path).graph
    kernels = [numpy_helper.to_array(tensor).shape for tensor in graph.initializer if len(tensor.dims) == 4]
    assert (3, 3, 1, 1) not in kernels
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    kinds = [node.op_type for node in graph.node if node.name.startswith("normalization_0/")]
    assert kinds == {TORCH: ["Mul", "Add"], CAFFE_VGG16: ["Gather", "Add"], SYMMETRIC: ["Mul", "Add"]}[colours]


def test_no_two_convolutions_share_a_bias(decoder):
    """A converter may have made one constant of equal biases; a correction of one would be one of all."""
    model, images = decoder
    expected = run(model, images)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    dims = {tensor.name: tensor.dims[0] for tensor in changed.graph.initializer if tensor.dims}
    convolutions = [node for node in changed.graph.node if node.op_type == "Conv"]
    bare = [node for node in convolutions if len(node.input) == 2 and dims[node.input[1]] == 128]
    assert len(bare) > 1
    changed.graph.initializer.append(numpy_helper.from_array(np.zeros(128, np.float32), "shared"))
    for node in bare[:2]:
        node.input.append("shared")
    own_biases(changed)
    onnx.checker.check_model(changed, full_check=True)
    np.testing.assert_allclose(run(changed, images), expected, atol=1e-6)
    biases = [node.input[2] for node in changed.graph.node if node.op_type == "Conv"]
    assert len(set(biases)) == len(biases) == len(convolutions)
