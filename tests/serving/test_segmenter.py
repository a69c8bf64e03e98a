"""The runtime: what it accepts, what it answers, where it runs, and that it needs nothing of TensorFlow."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from tfwsss.storage.artifacts import voc_palette
from tfwsss_onnx import DeviceError, ImageError, ModelError, Segmenter, overlay, providers

RUNTIME = Path(__file__).parents[2] / "serving" / "onnx"


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


def raw_mask(path, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": image[None]})[0][0]


def test_all_forms_of_a_photo_give_the_same_mask(segmenter, exported, photo, tmp_path):
    image = photo(45, 67)
    expected = raw_mask(exported("local"), image)
    assert len(np.unique(expected)) > 1
    picture = Image.fromarray(image)
    picture.save(tmp_path / "photo.png")
    data = (tmp_path / "photo.png").read_bytes()
    for form in (image, picture, tmp_path / "photo.png", str(tmp_path / "photo.png"), data, image[::-1][::-1]):
        mask = segmenter(form)
        assert mask.dtype == np.uint8 and mask.flags.c_contiguous
        np.testing.assert_array_equal(mask, expected)


def test_photos_are_read_as_in_training(segmenter, photo, tmp_path):
    from tfwsss.data.image import read_image

    exif = Image.Exif()
    exif[0x0112] = 8
    picture = Image.fromarray(photo(24, 40))
    picture.save(tmp_path / "turned.jpg", exif=exif)
    Image.merge("RGBA", (*picture.split(), picture.convert("L"))).save(tmp_path / "alpha.png")
    picture.quantize(8).save(tmp_path / "palette.png", transparency=2)
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 251).save(tmp_path / "deep.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture.save(tmp_path / "lossy.webp")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(segmenter(path), segmenter(read_image(path)), err_msg=path.name)


def test_a_list_keeps_its_order_whatever_the_sizes(segmenter, photo):
    photos = [photo(20 + 3 * (seed % 3), 31, seed) for seed in range(11)]
    masks = segmenter(photos)
    assert isinstance(masks, list)
    for image, mask in zip(photos, masks, strict=True):
        np.testing.assert_array_equal(mask, segmenter(image))


def test_equal_sizes_run_together(segmenter, photo):
    photos = np.stack([photo(33, 47, seed) for seed in range(3)])
    np.testing.assert_array_equal(segmenter.batch(photos), np.stack([segmenter(image) for image in photos]))


def test_scores_where_they_were_exported(segmenter, exported, photo):
    image = photo(33, 47)
    with_scores = Segmenter(exported("scores"), device="cpu")
    scores = with_scores.scores(image[None])
    assert scores.shape == (1, 33, 47, 4)
    np.testing.assert_allclose(scores.sum(3), 1, atol=1e-5)
    np.testing.assert_array_equal(with_scores(image), segmenter(image))
    with pytest.raises(ModelError, match="outputs"):
        segmenter.scores(image[None])


def test_names_and_colours_come_from_the_file(segmenter):
    assert segmenter.labels == ("background", "cat", "dog", "horse")
    np.testing.assert_array_equal(segmenter.palette, voc_palette()[:4])
    assert segmenter.metadata["precision"] == "fp32"
    assert segmenter.device == "cpu"


def test_overlay_colours_the_classes_only(segmenter, photo):
    image = photo(8, 9)
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4, 3:5] = 2
    picture = np.asarray(segmenter.overlay(image, mask, opacity=0.25))
    np.testing.assert_array_equal(picture[mask == 0], image[mask == 0])
    np.testing.assert_array_equal(picture[2, 3], np.rint(0.75 * image[2, 3] + 0.25 * segmenter.palette[2]))
    np.testing.assert_array_equal(overlay(image, mask, segmenter.palette, 0.0), image)


# ------------------------------------------------------------------------------------------------------ tiles


@pytest.mark.parametrize("shape", [(200, 264), (128, 400), (304, 96)])
def test_tiles_do_not_show(exported, photo, shape):
    image = photo(*shape)
    tiled = Segmenter(exported("local"), device="cpu", tile=160)
    assert tiled.seamless
    np.testing.assert_array_equal(tiled(image), raw_mask(exported("local"), image))


def test_sides_off_the_grid_are_those_of_the_photo_with_a_repeated_edge(exported, photo):
    image = photo(203, 259)
    extended = np.pad(image, ((0, 5), (0, 5), (0, 0)), mode="edge")
    mask = Segmenter(exported("local"), device="cpu", tile=160)(image)
    assert mask.shape == (203, 259)
    np.testing.assert_array_equal(mask, raw_mask(exported("local"), extended)[:203, :259])


def test_too_little_overlap_shows_and_is_stated(exported, photo):
    image = photo(200, 264)
    tiled = Segmenter(exported("local"), device="cpu", tile=64, overlap=0)
    assert not tiled.seamless
    assert (tiled(image) != raw_mask(exported("local"), image)).any()


def test_a_network_that_sees_the_whole_photo_is_never_called_seamless(exported, photo):
    tiled = Segmenter(exported("pooled"), device="cpu", tile=160)
    assert not tiled.seamless and tiled.metadata["receptive_field"]["reach"] is None
    assert tiled(photo(200, 264)).shape == (200, 264)


@pytest.mark.parametrize(("arguments", "name"), [({"tile": 8}, "tile"), ({"overlap": -1}, "overlap"), ({"tile": 64, "overlap": 32}, "overlap")])
def test_tiles_must_fit_the_network(exported, arguments, name):
    with pytest.raises(ValueError, match=f"{name}: found"):
        Segmenter(exported("local"), device="cpu", **arguments)


# ----------------------------------------------------------------------------------------------------- device


class FakeSession:
    """A session that says where it runs; onnxruntime reports a fallback to the CPU in no other way."""

    def __init__(self, path, options, providers):
        self.asked = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        self._session = REAL_SESSION(path, options, providers=["CPUExecutionProvider"])

    def get_providers(self):
        return ACTIVE

    def __getattr__(self, name):
        return getattr(self._session, name)


REAL_SESSION = onnxruntime.InferenceSession
ACTIVE: list[str] = []


@pytest.fixture
def pretend(monkeypatch):
    """pretend(available, active): the providers that onnxruntime has, and those that a session ends up with."""

    def set_up(available, active):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
        monkeypatch.setattr(sys.modules[__name__], "ACTIVE", active)

    return set_up


CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


def test_cuda_never_falls_back_in_silence(pretend, exported):
    pretend([CUDA, CPU], [CPU])
    with pytest.raises(DeviceError, match="fell back to CPUExecutionProvider"):
        Segmenter(exported("local"), device="cuda")
    pretend([CPU], [CPU])
    with pytest.raises(DeviceError, match="install onnxruntime-gpu"):
        Segmenter(exported("local"), device="cuda")


def test_auto_takes_what_works_and_says_which(pretend, exported, monkeypatch):
    monkeypatch.setattr(providers, "has_driver", lambda: True)
    pretend([CUDA, CPU], [CPU])
    assert Segmenter(exported("local")).device == "cpu"
    pretend([CUDA, CPU], [CUDA, CPU])
    found = Segmenter(exported("local"))
    assert found.device == "cuda" and found._session.asked == [CUDA, CPU]
    assert Segmenter(exported("local"), device="cuda").device == "cuda"


def test_auto_without_a_driver_says_nothing(pretend, exported, monkeypatch, capfd):
    monkeypatch.setattr(providers, "has_driver", lambda: False)
    assert Segmenter(exported("local")).device == "cpu"
    assert capfd.readouterr() == ("", "")  # onnxruntime-gpu warns when it tries CUDA in vain
    pretend([CUDA, CPU], [CPU])
    assert Segmenter(exported("local"))._session.asked == [CPU]


def test_cpu_does_not_touch_the_gpu(pretend, exported):
    pretend([CUDA, CPU], [CPU])
    assert Segmenter(exported("local"), device="cpu")._session.asked == [CPU]


def test_without_a_usable_gpu_the_real_onnxruntime_is_caught_too(exported):
    if Segmenter(exported("local")).device == "cuda":
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="cuda"):
        Segmenter(exported("local"), device="cuda")


def test_unknown_devices_are_errors(exported):
    with pytest.raises(DeviceError, match="'gpu'"):
        Segmenter(exported("local"), device="gpu")


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_of_another_kind_are_errors(segmenter, array):
    with pytest.raises(ImageError, match=re.escape(f"found {array.dtype} {array.shape}")):
        segmenter(array)


def test_files_that_are_no_photos_are_errors(segmenter, photo, tmp_path):
    file = io.BytesIO()
    Image.fromarray(photo(64, 64)).save(file, "JPEG")
    (tmp_path / "truncated.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    (tmp_path / "text.jpg").write_bytes(b"hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.fromarray(np.float32(photo(8, 8)[:, :, 0])).save(tmp_path / "float.tiff")
    for path in [*tmp_path.iterdir(), tmp_path / "missing.jpg", tmp_path]:
        with pytest.raises(ImageError, match=re.escape(str(path))):
            segmenter(path)
    for wrong in (b"hello", 7, None):
        with pytest.raises(ImageError):
            segmenter(wrong)


def test_large_photos_are_refused_before_decoding(exported, tmp_path):
    small = Segmenter(exported("local"), device="cpu", max_megapixels=0.01)
    Image.new("L", (101, 100)).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"large\.png: 101x100 pixels, the limit is 0.01 megapixels"):
        small(tmp_path / "large.png")
    bomb = io.BytesIO()
    Image.new("1", (20000, 20000)).save(bomb, "PNG")
    with pytest.raises(ImageError):
        Segmenter(exported("local"), device="cpu")(bomb.getvalue())


def test_files_that_are_no_segmenters_are_errors(exported, tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        Segmenter(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx: not a usable ONNX model"):
        Segmenter(tmp_path / "text.onnx", device="cpu")
    model = onnx.load(exported("local"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "anonymous.onnx")
    with pytest.raises(ModelError, match="'format' is None"):
        Segmenter(tmp_path / "anonymous.onnx", device="cpu")


# -------------------------------------------------------------------------------------------------- independence

ALONE = """
import sys, importlib.util
class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block)
spec = importlib.util.spec_from_file_location("tfwsss_onnx", {init!r}, submodule_search_locations=[{folder!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["tfwsss_onnx"] = module
spec.loader.exec_module(module)
import numpy as np
image = np.load({image!r})
np.save({mask!r}, module.Segmenter({model!r}, device="cpu")(image))
"""


@pytest.mark.parametrize("blocked", [("tensorflow", "keras", "tfwsss", "onnx", "serving"), ("tensorflow", "keras", "tfwsss", "onnx", "serving", "PIL")])
def test_it_runs_alone_under_its_own_name(segmenter, exported, photo, tmp_path, blocked):
    """As installed from serving/onnx by itself; arrays do not even need Pillow."""
    image = photo(33, 47)
    np.save(tmp_path / "image.npy", image)
    names = {"init": str(RUNTIME / "__init__.py"), "folder": str(RUNTIME), "model": str(exported("local"))}
    code = ALONE.format(blocked=blocked, image=str(tmp_path / "image.npy"), mask=str(tmp_path / "mask.npy"), **names)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), segmenter(image))


def test_the_example_of_the_readme_runs(exported, photo, tmp_path):
    example = re.search(r"```python\n(.*?)```", (RUNTIME / "README.md").read_text(), re.DOTALL).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    (tmp_path / "model.onnx").write_bytes(exported("local").read_bytes())
    for name, file_format in (("photo.jpg", "JPEG"), ("one.jpg", "JPEG"), ("two.png", "PNG")):
        Image.fromarray(photo(40, 50)).save(tmp_path / name, file_format)
    code = f"import sys; sys.path.insert(0, {str(RUNTIME.parents[1])!r})\n{example}\nassert len(masks) == 2"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "overlay.png").is_file() and "%" in done.stdout
