"""The SavedModel as TensorFlow Serving sees it: signatures by name, files in, files out, no Keras."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfwsss.data.image import with_nearest
from tfwsss.errors import ExportError
from tfwsss.export import Inference, export_saved_model
from tfwsss.export.photo_size import reduced_photos
from tfwsss.normalization import TORCH
from tfwsss.storage.artifacts import voc_palette

CLASSES = ("cat", "dog", "horse")


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model")
    return export_saved_model(
        tiny_model, folder / "segmenter", class_names=CLASSES, normalization=TORCH, version=3, max_megapixels=1.0, metadata={"licence": "CC0", "data": {"digest": "abc"}}
    )


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_the_signatures_are_the_documented_ones(signatures):
    found = {name: (function.structured_input_signature[1], function.structured_outputs) for name, function in signatures.items()}
    described = {
        name: tuple({key: (spec.dtype, spec.shape.as_list()) for key, spec in side.items()} for side in sides) for name, sides in found.items()
    }
    images = {"images": (tf.uint8, [None, None, None, 3])}
    assert described == {
        "serving_default": (images, {"mask": (tf.uint8, [None, None, None])}),
        "scores": (images, {"scores": (tf.float32, [None, None, None, 4])}),
        "serve_bytes": ({"image_bytes": (tf.string, [None])}, {"mask_png_bytes": (tf.string, [None])}),
    }


@pytest.mark.parametrize("shape", [(1, 33, 47), (2, 64, 64), (3, 5, 90), (1, 1, 1)])
def test_masks_and_scores_are_those_of_the_definition(signatures, tiny_model, photo, shape):
    images = np.stack([photo(*shape[1:], seed) for seed in range(shape[0])])
    inference = Inference(tiny_model, TORCH)
    mask = signatures["serving_default"](images=tf.constant(images))["mask"]
    np.testing.assert_array_equal(mask, inference.mask(tf.constant(images)))
    scores = signatures["scores"](images=tf.constant(images))["scores"]
    np.testing.assert_allclose(scores, inference.scores(tf.constant(images)), atol=1e-6)


def test_a_request_of_files_may_mix_sizes_and_formats(signatures, tiny_model, photo):
    photos = [photo(30, 41, 0), photo(77, 25, 1), photo(1, 1, 2)]
    files = [png(image) for image in photos]
    files.append(tf.io.encode_jpeg(photos[1], quality=95).numpy())
    photos.append(tf.io.decode_jpeg(files[-1], dct_method="INTEGER_ACCURATE").numpy())
    answers = signatures["serve_bytes"](image_bytes=tf.constant(files))["mask_png_bytes"].numpy()
    for image, answer in zip(photos, answers, strict=True):
        picture = Image.open(io.BytesIO(answer))
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), Inference(tiny_model, TORCH).mask(tf.constant(image[None]))[0])


def test_an_empty_request_has_an_empty_answer(signatures):
    assert signatures["serve_bytes"](image_bytes=tf.constant([], tf.string))["mask_png_bytes"].shape == (0,)


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_a_bomb_is_refused_with_little_memory(signatures, file_format):
    file = io.BytesIO()
    Image.new("1" if file_format == "PNG" else "L", (20000, 20000)).save(file, file_format, quality=1)
    bomb = file.getvalue()
    assert len(bomb) < 5_000_000
    with pytest.raises(tf.errors.InvalidArgumentError):  # whatever the first call loads is not counted
        signatures["serve_bytes"](image_bytes=tf.constant([bomb]))
    del file
    Path("/proc/self/clear_refs").write_text("5")  # the peak restarts from what is in use now
    before = peak_memory()
    with pytest.raises(tf.errors.InvalidArgumentError, match="20000x20000 pixels, expected 1 pixel to 1 megapixels"):
        signatures["serve_bytes"](image_bytes=tf.constant([bomb]))
    assert peak_memory() - before < 40_000_000  # the pixels alone would be 1.2 GB


def test_the_limit_is_the_argument(signatures, photo):
    allowed = png(np.zeros((1000, 1000, 3), np.uint8))
    refused = png(np.zeros((1000, 1001, 3), np.uint8))
    signatures["serve_bytes"](image_bytes=tf.constant([allowed]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="1000x1001"):
        signatures["serve_bytes"](image_bytes=tf.constant([allowed, refused]))


def test_metadata_is_an_asset(exported):
    assert exported.name == "3"
    text = json.loads((exported / "assets" / "metadata.json").read_text())
    assert text["labels"] == ["background", *CLASSES]
    assert text["palette"] == voc_palette()[:4].tolist()
    assert text["normalization"] == {"bgr": False, "scale": 1 / 255, "mean": list(TORCH.mean), "std": list(TORCH.std)}
    assert text["licence"] == "CC0" and text["data"] == {"digest": "abc"} and text["max_megapixels"] == 1.0
    assert set(text["versions"]) == {"tfwsss", "tensorflow", "keras"}


def test_no_path_of_the_exporting_machine_is_in_the_files(exported):
    for file in exported.rglob("*"):
        assert not file.is_file() or b"/tmp/" not in file.read_bytes(), file


def test_only_standard_operations_are_used(exported):
    saved = SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    definition = saved.meta_graphs[0].graph_def
    operations = {node.op for node in definition.node} | {node.op for function in definition.library.function for node in function.node_def}
    assert not {name for name in operations if "PyFunc" in name}
    assert {"DecodePng", "DecodeJpeg", "ExtractJpegShape"} <= operations


def saved_model_cli(*arguments) -> str:
    done = subprocess.run([str(Path(sys.executable).with_name("saved_model_cli")), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_tensorflows_own_tool_shows_it(exported):
    shown = saved_model_cli("show", "--dir", exported, "--all")
    for text in ("signature_def['serving_default']", "signature_def['serve_bytes']", "signature_def['scores']", "inputs['image_bytes']", "outputs['mask_png_bytes']", "shape: (-1, -1, -1, 3)"):
        assert text in shown


def test_tensorflows_own_tool_runs_it(exported, signatures, photo, tmp_path):
    images = photo(20, 31)[None]
    np.save(tmp_path / "images.npy", images)
    saved_model_cli("run", "--dir", exported, "--tag_set", "serve", "--signature_def", "serving_default", "--inputs", f"images={tmp_path / 'images.npy'}", "--outdir", tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), signatures["serving_default"](images=tf.constant(images))["mask"])


def test_an_existing_version_is_replaced_and_a_failed_export_leaves_it(tiny_model, tmp_path, monkeypatch):
    arguments = {"class_names": CLASSES, "normalization": TORCH}
    first = export_saved_model(tiny_model, tmp_path, **arguments, metadata={"round": 1})
    export_saved_model(tiny_model, tmp_path, **arguments, metadata={"round": 2})
    assert json.loads((first / "assets/metadata.json").read_text())["round"] == 2

    def full_disk(module, folder, signatures):
        Path(folder).mkdir()
        (Path(folder) / "half").write_text("")
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.saved_model, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        export_saved_model(tiny_model, tmp_path, **arguments, metadata={"round": 3})
    assert json.loads((first / "assets/metadata.json").read_text())["round"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_names": ("cat", "dog")}, "class_names: found 2 names, expected 3"),
        ({"class_names": ("cat", "dog", "cat")}, "different"),
        ({"class_names": ("cat", "dog", "background")}, "different"),
        ({"version": 0}, "version"),
        ({"max_megapixels": 0}, "max_megapixels"),
        ({"metadata": {"labels": []}}, r"\['labels'\]"),
        ({"metadata": {"value": float("nan")}}, "JSON"),
        ({"metadata": {"value": object()}}, "JSON"),
    ],
)
def test_wrong_arguments_are_named(tiny_model, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        export_saved_model(tiny_model, tmp_path, **({"class_names": CLASSES, "normalization": TORCH} | arguments))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def reducing(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reducing")
    return tf.saved_model.load(str(export_saved_model(tiny_model, folder, class_names=CLASSES, normalization=TORCH, long_side=48))).signatures


@pytest.mark.parametrize(("height", "width"), [(120, 96), (70, 200), (48, 31)])
def test_large_photos_are_made_smaller_and_their_masks_enlarged(reducing, tiny_model, photo, height, width):
    image = photo(height, width, 3)
    small = reduced_photos(tf.constant(image)[tf.newaxis], 48)
    assert max(small.shape[1:3]) == 48
    inference = Inference(tiny_model, TORCH)
    expected = with_nearest(inference.mask(small).numpy()[0], (height, width))
    np.testing.assert_array_equal(reducing["serving_default"](images=tf.constant(image[None]))["mask"][0], expected)
    answer = reducing["serve_bytes"](image_bytes=tf.constant([png(image)]))["mask_png_bytes"].numpy()[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer))), expected)
    scores = reducing["scores"](images=tf.constant(image[None]))["scores"]
    np.testing.assert_allclose(scores, tf.image.resize(inference.scores(small), (height, width)), atol=1e-6)
