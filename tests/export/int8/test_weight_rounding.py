"""Rounding with feedback: within the bound of the theory, and a network that stays closer to its float self."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tfwsss.export import export_onnx
from tfwsss.export.int8 import kernel_inputs, to_int8, weight_rounding
from tfwsss.export.int8.kernel_inputs import KernelInputs, examine
from tfwsss.export.int8.weight_rounding import LIMIT, round_with_feedback
from tfwsss.normalization import TORCH


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def problem(seed: int, groups: int, outputs: int, inputs: int):
    """Weights, scales and covariances of strongly correlated inputs."""
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((groups, outputs, inputs))
    mixing = generator.standard_normal((groups, inputs, inputs)) + 3 * generator.standard_normal((groups, inputs, 1))
    return weights, np.abs(weights).max(2) / 50, mixing @ mixing.transpose(0, 2, 1) + 0.01 * np.eye(inputs)


def loss(weights, scales, covariance, rounded):
    errors = weights - rounded * scales[:, :, np.newaxis]
    return np.einsum("goi,gij,goj->go", errors, covariance, errors)


@given(seed=st.integers(0, 10**6), groups=st.integers(1, 3), outputs=st.integers(1, 4), inputs=st.integers(1, 9))
def test_error_is_within_the_bound(seed, groups, outputs, inputs):
    """With covariance = (U + I) D (U + I)^T and no clipping, each weight adds at most (step / 2)^2 D_ii (QuIP, theorem 1)."""
    weights, scales, covariance = problem(seed, groups, outputs, inputs)
    rounded = round_with_feedback(weights, scales, covariance, limit=127)
    assert rounded.dtype == np.int8 and rounded.shape == weights.shape
    diagonal = np.stack([np.diagonal(np.linalg.cholesky(matrix[::-1, ::-1])) ** 2 for matrix in covariance])
    assert (loss(weights, scales, covariance, rounded) <= scales**2 / 4 * diagonal.sum(1)[:, np.newaxis] * (1 + 1e-9)).all()


def test_correlated_inputs_halve_the_error_and_independent_ones_leave_it():
    weights, scales, covariance = problem(0, 2, 64, 9)
    nearest = np.rint(weights / scales[:, :, np.newaxis])
    found = loss(weights, scales, covariance, round_with_feedback(weights, scales, covariance))
    assert found.mean() < 0.5 * loss(weights, scales, covariance, nearest).mean()
    independent = np.stack([np.diag(np.arange(1.0, 10)), np.eye(9)])
    np.testing.assert_array_equal(round_with_feedback(weights, scales, independent), nearest)


def test_blocks_make_no_difference(monkeypatch):
    arguments = problem(1, 1, 5, 37)
    whole = round_with_feedback(*arguments)
    monkeypatch.setattr(weight_rounding, "_BLOCK", 8)
    np.testing.assert_array_equal(round_with_feedback(*arguments), whole)


def test_integers_stay_within_the_limit():
    weights, scales, covariance = problem(2, 1, 6, 9)
    assert np.abs(round_with_feedback(weights, scales / 10, covariance)).max() == LIMIT


def convolution(kernel: np.ndarray, **attributes) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    inputs, outputs = ([helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)] for name in "xy")
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(kernel, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "shape, attributes",
    [
        ((4, 6, 1, 1), {}),
        ((4, 6, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
        ((4, 6, 3, 2), {"dilations": [2, 3], "pads": [4, 5, 4, 3]}),
        ((12, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
        ((4, 3, 3, 3), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((4, 6, 2, 3), {"auto_pad": "SAME_UPPER"}),
        ((4, 6, 3, 3), {"auto_pad": "VALID"}),
    ],
)
def test_patches_are_what_the_convolution_sees(shape, attributes):
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal(shape).astype(np.float32)
    values = generator.standard_normal((6, 11, 14)).astype(np.float32)
    model = convolution(kernel, **attributes)
    expected = session(model).run(None, {"x": values[np.newaxis]})[0][0].reshape(shape[0], -1)
    inputs = KernelInputs(model.graph.node[0], shape)
    patches = inputs.patches(values, np.random.default_rng(5))
    places = np.random.default_rng(5).choice(expected.shape[1], expected.shape[1], replace=False)
    found = kernel.reshape(inputs.groups, -1, inputs.inputs) @ patches.transpose(0, 2, 1)
    np.testing.assert_allclose(found.reshape(shape[0], -1), expected[:, places], atol=1e-5)


def test_moments_are_those_of_the_patches():
    inputs = KernelInputs(convolution(np.zeros((4, 3, 2, 2), np.float32), group=2).graph.node[0], (4, 3, 2, 2))
    generator = np.random.default_rng(0)
    maps = [generator.normal(3, 1, (6, 9, width)).astype(np.float32) for width in (7, 80)]
    for values in maps:
        inputs.add(values, np.random.default_rng(1))
    patches = np.concatenate([inputs.patches(values, np.random.default_rng(1)) for values in maps], axis=1).astype(np.float64)
    assert patches.shape == (2, 8 * 6 + 512, 12)
    np.testing.assert_allclose(inputs.mean, patches.mean(1), rtol=1e-6)
    expected = np.stack([np.cov(group.T, bias=True) for group in patches])
    damping = 0.01 * np.trace(expected, axis1=1, axis2=2) / 12
    np.testing.assert_allclose(inputs.covariance, expected + damping[:, np.newaxis, np.newaxis] * np.eye(12), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "most", "parts"), [(8, 18, 4), (8, 17, 8), (6, 27, 2), (5, 36, 5), (8, 72, 1), (3, 4, 3)])
def test_many_inputs_are_taken_in_parts(monkeypatch, channels, most, parts):
    monkeypatch.setattr(kernel_inputs, "_MOST_INPUTS", most)
    shape = (4, channels, 3, 3)
    inputs = KernelInputs(convolution(np.zeros((8, *shape[1:]), np.float32), group=2).graph.node[0], shape)
    assert (inputs.parts, inputs.inputs) == (parts, 9 * channels // parts)
    values = np.random.default_rng(0).standard_normal((2 * channels, 12, 13)).astype(np.float32)
    inputs.add(values, np.random.default_rng(1))
    patches = inputs.patches(values, np.random.default_rng(1))
    np.testing.assert_array_equal(inputs.joined(inputs.split(patches)), patches)
    np.testing.assert_allclose(inputs.mean.reshape(2, -1), patches.mean(1), rtol=1e-4, atol=1e-6)
    second = np.cov(patches[1].T.astype(np.float64), bias=True)[-inputs.inputs :, -inputs.inputs :]
    found = inputs.covariance[-1] - np.diag(np.diag(inputs.covariance[-1]) - np.diag(second))
    np.testing.assert_allclose(found, second, rtol=1e-3, atol=1e-5)


def test_few_places_are_trusted_less():
    inputs = KernelInputs(convolution(np.zeros((1, 40, 1, 1), np.float32)).graph.node[0], (1, 40, 1, 1))
    values = np.random.default_rng(0).standard_normal((40, 2, 2)).astype(np.float32)
    inputs.add(values, np.random.default_rng(0))
    covariance = inputs.covariance[0]
    assert np.linalg.eigvalsh(covariance)[0] == pytest.approx(0.01 * 40 / 4 * np.trace(np.cov(values.reshape(40, 4), bias=True)) / 40, rel=1e-3)


def test_inputs_that_never_change_are_no_obstacle():
    for value in (0.0, 1e4):
        inputs = KernelInputs(convolution(np.zeros((2, 1, 3, 3), np.float32), group=2).graph.node[0], (2, 1, 3, 3))
        inputs.add(np.full((2, 8, 8), value, np.float32), np.random.default_rng(0))
        weights = np.random.default_rng(1).standard_normal((2, 1, 9))
        round_with_feedback(weights, np.abs(weights).max(2) / 64, inputs.covariance)


def run(model: onnx.ModelProto, images) -> np.ndarray:
    return np.concatenate([session(model).run(["scores"], {"images": image[np.newaxis]})[0].ravel() for image in images])


@pytest.mark.parametrize(("backbone", "test_time", "most"), [("mobilenetv2", {}, 4608), ("vgg16", {"scales": (1.0, 0.5), "flip": True}, 72)])
def test_network_stays_closer_to_itself(made, tmp_path, photo, monkeypatch, backbone, test_time, most):
    """Test-time variants share their weights, but not their inputs; many inputs are taken in parts."""
    monkeypatch.setattr(kernel_inputs, "_MOST_INPUTS", most)
    segmenter = made(backbone)
    export_onnx(segmenter.model, tmp_path / "m.onnx", outputs=("scores",), **test_time, **segmenter.arguments)
    model = onnx.load(tmp_path / "m.onnx")
    photos = [photo(60, 80, seed) for seed in range(8)]
    unseen = [photo(70, 50, seed) for seed in range(100, 104)]
    expected = run(model, unseen)
    error = {rounding: np.square(run(to_int8(model, photos, "minmax", rounding), unseen) - expected).mean() for rounding in ("nearest", "feedback")}
    assert error["feedback"] < 0.95 * error["nearest"]  # most of it is that of the activations: random weights are wide


def test_only_integers_change_and_batches_make_no_difference(tiny_model, tmp_path, photo, monkeypatch):
    export_onnx(tiny_model, tmp_path / "m.onnx", class_names=("cat", "dog", "horse"), normalization=TORCH)
    model, photos = onnx.load(tmp_path / "m.onnx"), [photo(60, 80), photo(41, 30)]
    nearest, whole = (to_int8(model, photos, "minmax", rounding) for rounding in ("nearest", "feedback"))
    monkeypatch.setattr(weight_rounding, "_BATCH_BYTES", 1)
    assert to_int8(model, photos, "minmax").graph.initializer == whole.graph.initializer
    pairs = [pair for pair in zip(nearest.graph.initializer, whole.graph.initializer, strict=True) if pair[0] != pair[1]]
    for old, new in pairs:
        assert (old.name, old.data_type, old.dims) == (new.name, new.data_type, new.dims)
    of_convolutions, of_scores = 2 * [onnx.TensorProto.INT8, onnx.TensorProto.INT32], [onnx.TensorProto.INT8]
    assert sorted(old.data_type for old, _ in pairs) == sorted(of_convolutions + of_scores)
    assert list(nearest.graph.node) == list(whole.graph.node)


def test_of_a_large_photo_the_middle_is_seen(monkeypatch):
    monkeypatch.setattr(kernel_inputs, "_LARGEST", 4)
    cast = helper.make_node("Cast", ["images"], ["x"], to=onnx.TensorProto.FLOAT)
    channels_first = helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])
    node = helper.make_node("Conv", ["first", "w"], ["y"], "conv")
    inputs = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["b", "h", "w", 3])
    outputs = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph([cast, channels_first, node], "g", [inputs], [outputs], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    image = np.zeros((10, 3, 3), np.uint8)
    image[3:7] = 100
    seen = KernelInputs(node, (1, 3, 1, 1))
    examine(model, [seen], [image])
    np.testing.assert_array_equal(seen.mean, [[100, 100, 100]])


def test_matrix_products_are_rounded_and_their_bias_makes_up_for_it(made, tmp_path, photo):
    segmenter = made("resnet50v15")
    export_onnx(segmenter.model, tmp_path / "m.onnx", **segmenter.arguments)
    model, photos = onnx.load(tmp_path / "m.onnx"), [photo(60, 80, seed) for seed in range(2)]
    nearest, fed_back = (to_int8(model, photos, "minmax", rounding).graph for rounding in ("nearest", "feedback"))
    matrices = {node.input[1].replace("_DequantizeLinear_Output", "_quantized") for node in fed_back.node if node.op_type == "MatMul"}
    changed = {old.name: old for old, new in zip(nearest.initializer, fed_back.initializer, strict=True) if old != new}
    assert matrices and matrices <= set(changed)
    assert [list(tensor.dims) for tensor in changed.values() if tensor.data_type == onnx.TensorProto.FLOAT] == [[4, 1, 1]]  # of the scores
