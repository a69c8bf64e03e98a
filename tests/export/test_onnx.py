"""The ONNX file: its interface, its metadata, its operations, its precisions."""

import json
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tfwsss.errors import ExportError
from tfwsss.export import Inference, export_onnx
from tfwsss.normalization import CAFFE_VGG16, TORCH

CLASSES = ("cat", "dog", "horse")
SHAPES = [(1, 33, 47), (2, 64, 64), (3, 5, 90), (1, 1, 1)]


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def properties(path) -> dict:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def axes(value) -> list:
    return [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export_onnx(
        tiny_model, path, class_names=CLASSES, normalization=TORCH, outputs=("mask", "scores"), metadata={"licence": "CC0", "preset": "scenes", "miou": {"fp32": 0.5}}
    )


def test_axes_are_named_and_nothing_else_is_free(exported):
    model = onnx.load(exported)
    assert {value.name: axes(value) for value in [*model.graph.input, *model.graph.output]} == {
        "images": ["batch", "height", "width", 3],
        "mask": ["batch", "height", "width"],
        "scores": ["batch", "height", "width", 4],
    }
    assert not model.graph.value_info
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_those_of_the_definition(exported, tiny_model, photo, shape):
    images = np.stack([photo(*shape[1:], seed) for seed in range(shape[0])])
    inference = Inference(tiny_model, TORCH)
    mask, scores = session(exported).run(["mask", "scores"], {"images": images})
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, inference.mask(tf.constant(images)))
    np.testing.assert_allclose(scores, inference.scores(tf.constant(images)), atol=1e-5)


def test_channel_order_and_test_time_variants_are_inside(tiny_model, photo, tmp_path):
    arguments = {"scales": (0.75, 1.0, 1.5), "flip": True}
    path = export_onnx(tiny_model, tmp_path / "m.onnx", class_names=CLASSES, normalization=CAFFE_VGG16, outputs=("scores",), **arguments)
    images = photo(37, 53)[None]
    expected = Inference(tiny_model, CAFFE_VGG16, **arguments).scores(tf.constant(images)).numpy()
    np.testing.assert_allclose(session(path).run(None, {"images": images})[0], expected, atol=1e-4)
    assert np.abs(Inference(tiny_model, CAFFE_VGG16).scores(tf.constant(images)).numpy() - expected).max() > 0.01
    assert json.loads(properties(path)["receptive_field"])["reach"] is None


def test_metadata_are_strings_and_json(exported):
    found = properties(exported)
    assert json.loads(found["labels"]) == ["background", *CLASSES]
    assert found["licence"] == "CC0" and found["preset"] == "scenes" and found["precision"] == "fp32"
    assert json.loads(found["miou"]) == {"fp32": 0.5}
    assert json.loads(found["normalization"])["mean"] == list(TORCH.mean)
    assert json.loads(found["receptive_field"])["stride"] == 4
    assert json.loads(found["outputs"]) == ["mask", "scores"]


def test_the_same_model_gives_the_same_bytes(tiny_model, tmp_path):
    first, second = (export_onnx(tiny_model, tmp_path / name, class_names=CLASSES, normalization=TORCH) for name in ("a.onnx", "b.onnx"))
    models = [onnx.load(path) for path in (first, second)]
    assert [[node.op_type for node in model.graph.node] for model in models][0] == [node.op_type for node in models[1].graph.node]


@pytest.mark.parametrize(("backbone", "widest", "stride"), [("resnet38", 12, 8), ("mobilenetv2", 18, 16)])
def test_real_segmenters_stay_simple_graphs(made, backbone, widest, stride, tmp_path):
    segmenter = made(backbone)
    path = export_onnx(segmenter.model, tmp_path / "m.onnx", **segmenter.arguments)
    model = onnx.load(path)
    dilations = [tuple(item.ints) for node in model.graph.node if node.op_type == "Conv" for item in node.attribute if item.name == "dilations"]
    assert max(dilations) == (widest, widest)  # a dilated convolution is one operation, not a dozen
    operations = Counter(node.op_type for node in model.graph.node)
    assert not {"SpaceToDepth", "DepthToSpace"} & set(operations)
    assert operations["Transpose"] <= 2  # in and out of channels-first, nowhere else
    field = json.loads(properties(path)["receptive_field"])
    assert field["stride"] == stride
    assert 400 < field["reach"] < 600 if backbone == "resnet38" else field["reach"] is None  # ASPP pools the whole photo


@pytest.fixture(scope="module")
def photos(photo):
    return [photo(48, 64 if seed > 1 else 51, seed) for seed in range(6)]


def test_half_precision_is_half_the_size_and_nearly_the_same(made, photos, tmp_path):
    segmenter = made("resnet38")
    paths = {name: export_onnx(segmenter.model, tmp_path / f"{name}.onnx", precision=name, outputs=("scores",), **segmenter.arguments) for name in ("fp32", "fp16")}
    assert paths["fp16"].stat().st_size < 0.6 * paths["fp32"].stat().st_size
    model = onnx.load(paths["fp16"])
    assert {axes(value)[0] for value in model.graph.output} == {"batch"} and properties(paths["fp16"])["precision"] == "fp16"
    images = np.stack(photos[2:])
    full, half = (session(paths[name]).run(None, {"images": images})[0] for name in ("fp32", "fp16"))
    assert half.dtype == np.float32
    assert np.abs(full - half).max() < 0.05
    assert (full.argmax(3) != half.argmax(3)).mean() < 0.01


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_may_have_both_outputs(tiny_model, photos, tmp_path, precision):
    arguments = {"class_names": CLASSES, "normalization": TORCH, "outputs": ("mask", "scores"), "calibration_images": photos}
    mask, scores = session(export_onnx(tiny_model, tmp_path / "m.onnx", precision=precision, **arguments)).run(["mask", "scores"], {"images": photos[0][None]})
    assert (mask != scores.argmax(3)).mean() < 0.002  # rounding in softmax makes ties
    np.testing.assert_allclose(scores, Inference(tiny_model, TORCH).scores(tf.constant(photos[0][None])), atol=0.05)


def test_integers_are_per_channel_and_nearly_the_same(made, photos, tmp_path):
    segmenter = made("mobilenetv2")
    arguments = segmenter.arguments | {"outputs": ("scores",)}
    path = export_onnx(segmenter.model, tmp_path / "int8.onnx", precision="int8", calibration_images=photos[:4], **arguments)
    model = onnx.load(path)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in arrays and arrays[node.input[0]].ndim == 4]
    assert len(weights) > 30
    assert all(arrays[node.input[0]].dtype == np.int8 and arrays[node.input[1]].shape == (arrays[node.input[0]].shape[0],) for node in weights)
    images = np.stack(photos[4:])
    expected = Inference(segmenter.model, segmenter.arguments["normalization"]).mask(tf.constant(images)).numpy()
    found = session(path).run(None, {"images": images})[0].argmax(3)
    assert (found != expected).mean() < 0.25  # random weights: no class is far ahead of the next


def test_each_calibration_chooses_its_own_ranges(tiny_model, photos, tmp_path):
    scales = {}
    for calibration in ("minmax", "entropy", "percentile"):
        arguments = {"class_names": CLASSES, "normalization": TORCH, "precision": "int8", "calibration_images": photos, "calibration": calibration}
        path = export_onnx(tiny_model, tmp_path / f"{calibration}.onnx", **arguments)
        assert json.loads(properties(path)["calibration"]) == {"method": calibration, "images": len(photos), "rounding": "feedback"}
        model = onnx.load(path)
        scales[calibration] = [float(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer if t.name.endswith("_scale") and not t.dims]
        expected = Inference(tiny_model, TORCH).mask(tf.constant(photos[0][None])).numpy()
        assert (session(path).run(None, {"images": photos[0][None]})[0] != expected).mean() < 0.05
    assert len({tuple(values) for values in scales.values()}) == 3
    assert max(scales["minmax"]) >= max(scales["percentile"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ()}, "outputs"),
        ({"outputs": ("logits",)}, "outputs"),
        ({"outputs": ("mask", "mask")}, "outputs"),
        ({"precision": "fp64"}, "precision: found 'fp64'"),
        ({"precision": "int8"}, "calibration_images"),
        ({"precision": "int8", "calibration_images": [np.zeros((8, 8), np.uint8)]}, r"calibration_images\[0\]: found uint8 \(8, 8\)"),
        ({"precision": "int8", "calibration_images": [np.zeros((8, 8, 3), np.uint8)], "calibration": "best"}, "calibration: found 'best'"),
        ({"opset": 9}, "opset"),
        ({"class_names": ("one",)}, "class_names"),
    ],
)
def test_wrong_arguments_are_named(tiny_model, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        export_onnx(tiny_model, tmp_path / "m.onnx", **({"class_names": CLASSES, "normalization": TORCH} | arguments))
    assert not list(tmp_path.iterdir())
