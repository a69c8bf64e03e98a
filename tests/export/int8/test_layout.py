"""Changes of the graph's form leave its results as they are, and make the form that they promise."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tfwsss.export import export_onnx
from tfwsss.export.int8 import to_int8
from tfwsss.export.int8.layout import align_depthwise, own_biases, products_in_float32
from tfwsss.export.int8.quantization import quantized_nodes
from tfwsss.models import build_segmenter, normalization


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


def test_products_in_float32_are_the_same_scores(decoder):
    model, images = decoder
    expected = run(model, images)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    scores = next(node for node in reversed(model.graph.node) if node.op_type == "Conv")
    names = products_in_float32(changed, quantized_nodes(model.graph))
    assert names[-2:] == [f"{scores.name}/channels_last", f"{scores.name}/product"]
    kinds = {node.name: node.op_type for node in changed.graph.node}
    assert [kinds[name] for name in names] == ["Transpose", "MatMul"] * (len(names) // 2)
    assert not {tensor.name for tensor in changed.graph.initializer} - {name for node in changed.graph.node for name in node.input}
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
    assert "DequantizeLinear" not in {sources[node.input[0]].op_type for node in quantized.graph.node if node.op_type == "Shape" and node.input[0] in sources}
    # What is left of them is in the convolutions; older converters reshape the one pooled cell before its normalisation.
    assert not {"Clip", "BatchNormalization"} & {kind for name, kind in operations.items() if "aspp_pool" not in name}


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


def test_group_normalization_sees_maps_that_were_never_quantized(made, tmp_path, photo):
    segmenter = made("resnet50v15")
    assert any("GroupNormalization" in type(layer).__name__ for layer in segmenter.model.layers)
    photos = [photo(60, 80, seed) for seed in range(2)]
    export_onnx(segmenter.model, tmp_path / "m.onnx", precision="int8", calibration_images=photos, **segmenter.arguments)
    graph = onnx.load(tmp_path / "m.onnx").graph
    readers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in graph.node if node.op_type == "MatMul" and set(node.input) <= dequantized]
    # ASPP: pooled, 1x1, three dilated, together; the decoder's low-level one and its two; the scores.
    assert len(products) == 10
    assert all("QuantizeLinear" not in readers[node.output[0]] for node in products)
    normalization = [name for node in graph.node if node.op_type == "Mul" and "norm" in node.name for name in node.input]
    assert normalization and not dequantized & set(normalization)
    # CUDA kernels of ONNX Runtime resize the last two axes, whatever axes are meant.
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "m.onnx"), data_prop=True).graph
    channels = {value.name: value.type.tensor_type.shape.dim[1].dim_value for value in inferred.value_info if len(value.type.tensor_type.shape.dim) == 4}
    resized = [node for node in graph.node if node.op_type == "Resize"]
    assert resized and all(channels[node.input[0]] == channels[node.output[0]] > 0 for node in resized)
