"""The contract holds for real exports, and a model that breaks it is caught with a useful message."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import numpy_helper
from PIL import Image

from tfwsss.errors import ExportError
from tfwsss.export import ParityCheck, check_parity, export_onnx, export_saved_model
from tfwsss.export.parity import BATCHES, SIZES
from tfwsss.export.parity_keras import Comparison, _check_saved_model, answer_cases, compare, smooth_image
from tfwsss.normalization import TORCH


@pytest.fixture(scope="module")
def artefacts(made, tmp_path_factory):
    """artefacts(backbone, **variant) -> (Made, keyword arguments of check_parity)."""
    cache = {}

    def make(backbone, **variant):
        key = (backbone, repr(variant))
        if key not in cache:
            segmenter, folder = made(backbone), tmp_path_factory.mktemp(backbone)
            onnx_file = export_onnx(segmenter.model, folder / "model.onnx", outputs=("mask", "scores"), **segmenter.arguments, **variant)
            saved = export_saved_model(segmenter.model, folder / "saved_model", **segmenter.arguments, **variant)
            found = {"saved_model": saved, "onnx": onnx_file, **variant}
            cache[key] = segmenter, {"normalization": segmenter.arguments["normalization"], **found}
        return cache[key]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet38", "mobilenetv2"])
def test_every_artefact_gives_keras_masks(artefacts, photo, tmp_path, backbone):
    segmenter, arguments = artefacts(backbone)
    photos = []
    for number, (height, width) in enumerate(((40, 90), (81, 53))):
        photos.append(tmp_path / f"{number}.jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(photo(height, width, number)).save(photos[-1], exif=exif)
    result = check_parity(segmenter.weights, **arguments, photos=photos, output=tmp_path / "parity.json")
    images = len(SIZES) * sum(BATCHES) + len(photos)
    pixels = sum(height * width for height, width in SIZES) * sum(BATCHES) + 40 * 90 + 81 * 53
    assert len(SIZES) >= 10 and all(side % 2 for size in SIZES for side in size)
    found = result["artefacts"]
    assert (found["onnx"]["images"], found["onnx"]["pixels"]) == (images, pixels)
    assert (found["saved_model"]["images"], found["saved_model"]["pixels"]) == (2 * images, 2 * pixels)  # serving_default and serve_bytes
    for artefact in found.values():
        assert artefact["different_pixels"] <= 1e-4 * artefact["pixels"]
        assert artefact["largest_score_difference"] < 1e-3
    assert json.loads((tmp_path / "parity.json").read_text()) == result


def check(segmenter, arguments, folder, sizes=((33, 47), (63, 121)), **changes) -> dict:
    """What the fresh process does, small and in this process."""
    test_time = {"scales": list(arguments.get("scales", [1.0])), "flip": arguments.get("flip", False)}
    rest = {"sizes": sizes, "batches": [2], "photos": [], "tflite_size": None, "long_side": None, "tolerance": 2e-4, "folder": str(folder)}
    request = {"weights": str(segmenter.weights), "normalization": asdict(arguments["normalization"]), **test_time, **rest, **changes}
    return compare(request, answer_cases(request), {key: arguments[key] and str(arguments[key]) for key in ("saved_model", "onnx")})


@pytest.mark.slow
def test_test_time_variants_are_checked_too(artefacts, tmp_path):
    segmenter, arguments = artefacts("vgg16", scales=(0.5, 1.0), flip=True)
    result = check(segmenter, arguments, tmp_path)
    assert result["artefacts"]["onnx"]["images"] == 4
    with pytest.raises(ExportError, match=r"generated 33x47 batch 2, image 0, pixel \(y=\d+, x=\d+\)"):
        check(segmenter, arguments, tmp_path, flip=False)


def test_a_changed_weight_is_found(artefacts, tmp_path):
    segmenter, arguments = artefacts("vgg16")
    model = onnx.load(arguments["onnx"])
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4 and t.dims[0] == 4)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.05), tensor.name))
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ExportError, match=r"changed\.onnx: generated 33x47 batch 2, image 0, pixel .* numeric error bound"):
        check(segmenter, arguments | {"saved_model": None, "onnx": tmp_path / "changed.onnx"}, tmp_path)


def test_a_file_that_needs_tensorflow_or_is_none_is_an_error(artefacts, tmp_path):
    segmenter, arguments = artefacts("vgg16")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"broken\.onnx: does not run without TensorFlow"):
        check(segmenter, arguments | {"saved_model": None, "onnx": tmp_path / "broken.onnx"}, tmp_path, sizes=((33, 47),))


def test_errors_of_the_fresh_process_are_passed_on_and_old_results_removed(tmp_path):
    stale = tmp_path / "parity.json"
    stale.write_text("{}")
    with pytest.raises(ExportError, match=r"none\.safetensors"):
        check_parity(tmp_path / "none.safetensors", normalization=TORCH, onnx=tmp_path / "none.onnx", output=stale)
    assert not stale.exists()


def test_nothing_goes_on_after_an_export_that_failed(tmp_path):
    check = ParityCheck(tmp_path / "any.safetensors", normalization=TORCH)
    with pytest.raises(KeyboardInterrupt), check:
        folder = check._folder
        assert (folder / "request.json").is_file()
        raise KeyboardInterrupt
    assert check._process.returncode is not None and not folder.exists()


class TestRule:
    """The comparison itself, on made-up scores."""

    logits = np.array([[[[0.0, 3.0, 2.9995], [4.0, 1.0, 0.0]]]])  # [1, 1, 2, 3]; spread 4, so the bound is 8e-4

    def compare(self, mask):
        comparison = Comparison("model", 2e-4)
        comparison.masks("photo", self.logits, np.array(mask, np.uint8)[None, None])
        return comparison.result()

    def test_equal_masks_count_nothing(self):
        assert self.compare([1, 0])["different_pixels"] == 0

    def test_a_near_tie_may_flip(self):
        result = self.compare([2, 0])
        assert result["different_pixels"] == 1 and result["largest_margin_of_difference"] == pytest.approx(5e-4)

    @pytest.mark.parametrize("mask", [[0, 0], [1, 1], [1, 7], [255, 0]])
    def test_any_other_label_breaks_the_contract(self, mask):
        with pytest.raises(ExportError, match="model: photo, image 0, pixel"):
            self.compare(mask)

    def test_near_ties_do_not_excuse_a_third_label(self):
        # The margin that counts is that of the label given, not of the second best.
        with pytest.raises(ExportError, match="label 0, Keras gives 1 with a margin of 3"):
            self.compare([0, 0])

    def test_shape_and_type_are_part_of_the_contract(self):
        with pytest.raises(ExportError, match="expected uint8"):
            Comparison("model", 2e-4).masks("photo", self.logits, np.array([[[1, 0]]], np.int64))
        with pytest.raises(ExportError, match="expected uint8"):
            Comparison("model", 2e-4).masks("photo", self.logits, np.zeros((1, 2, 1), np.uint8))

    def test_scores_must_agree_to_the_bound(self):
        expected = np.full((1, 1, 2, 3), 1 / 3)
        Comparison("model", 2e-4).scores("photo", self.logits, expected, np.float32(expected + 7e-4))
        with pytest.raises(ExportError, match=r"pixel \(y=0, x=1\): score of label 2"):
            wrong = np.float32(expected)
            wrong[0, 0, 1, 2] += 1e-3
            Comparison("model", 2e-4).scores("photo", self.logits, expected, wrong)


def test_generated_photos_are_smooth_but_use_the_whole_range():
    image = smooth_image(np.random.default_rng(0), 161, 121)
    assert image.shape == (161, 121, 3) and image.dtype == np.uint8
    assert image.min() < 40 and image.max() > 215
    assert np.abs(np.diff(image.astype(int), axis=0)).mean() < 20


@pytest.mark.slow
def test_parity_of_artefacts_that_make_large_photos_smaller(made, photo, tmp_path):
    segmenter = made("mobilenetv2")
    long_side = {"long_side": 64}
    onnx_file = export_onnx(segmenter.model, tmp_path / "model.onnx", **segmenter.arguments, **long_side)
    saved = export_saved_model(segmenter.model, tmp_path / "saved_model", **segmenter.arguments, **long_side)
    Image.fromarray(photo(150, 131, 4)).save(tmp_path / "large.png")
    arguments = {"normalization": segmenter.arguments["normalization"], "sizes": ((33, 47),), "batches": (1,), "photos": [tmp_path / "large.png"], **long_side}
    result = check_parity(segmenter.weights, saved_model=saved, onnx=onnx_file, **arguments)
    assert result["artefacts"]["onnx"]["pixels"] == 33 * 47 + 64 * 56
    assert result["artefacts"]["saved_model"]["images"] == 4


@pytest.mark.parametrize(("long_side", "answered", "fits"), [(None, (8, 6), True), (None, (16, 12), False), (8, (16, 12), True), (8, (12, 16), False)])
def test_masks_of_files_have_the_files_size(photo, long_side, answered, fits):
    """8x6 pixels are compared; with a long side of 8 the file may have been larger."""
    logits = np.zeros((1, 8, 6, 2))
    logits[..., 1] = 1.0
    scores = np.full((1, 8, 6, 2), 0.5, np.float32)
    answers = {"mask": np.ones((1, 8, 6), np.uint8), "scores": scores, "mask_png_bytes": [tf.io.encode_png(np.ones((*answered, 1), np.uint8)).numpy()]}
    signatures = {
        signature: lambda name=name, **inputs: {name: tf.constant(answers[name])} for signature, name in (("serving_default", "mask"), ("scores", "scores"), ("serve_bytes", "mask_png_bytes"))
    }
    arguments = (SimpleNamespace(signatures=signatures), Comparison("artefact", 1e-3), "x", photo(8, 6, 0)[None], b"file", logits, scores, long_side)
    if fits:
        _check_saved_model(*arguments)
    else:
        with pytest.raises(ExportError, match="serve_bytes.*found mask"):
            _check_saved_model(*arguments)
