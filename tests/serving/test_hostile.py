"""The hostile files against the runtime: a typed error or the right mask, within a memory limit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.corpus import corpus
from tfwsss.data.image import read_image
from tfwsss.errors import ImageError as TrainingImageError
from tfwsss_onnx import Segmenter

DRIVER = Path(__file__).parent / "hostile_driver.py"
MOST_MEGABYTES = 100


@pytest.fixture(scope="module")
def results(exported, tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "results.npz"
    done = subprocess.run([sys.executable, str(DRIVER), str(exported("local")), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


def training_reads(data: bytes, path: Path):
    """The photo as the training reads it, or None if it refuses it."""
    path.write_bytes(data)
    try:
        return read_image(path)
    except TrainingImageError:
        return None


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF
def test_every_file_gives_a_typed_error_or_the_right_mask(results, segmenter, tmp_path):
    wrong = []
    for name, data, (kind, size, pixels) in corpus():
        mask = results.get(f"mask/{name}")
        if mask is None:
            error = results.get(f"error/{name}")
            if error is None or kind == "mask":
                wrong.append(f"{name}: {error}, expected a mask")
            continue
        image = pixels if pixels is not None else training_reads(data, tmp_path / "photo")
        if kind == "error" or image is None:
            wrong.append(f"{name}: a mask of {mask.shape}, expected an error")
        elif size is not None and mask.shape != size:
            wrong.append(f"{name}: a mask of {mask.shape}, expected {size}")
        elif not np.array_equal(mask, segmenter(image)):
            wrong.append(f"{name}: another mask than that of its pixels")
    assert not wrong, "\n".join(wrong)


def test_memory_stays_within_the_limit(results):
    assert results["megabytes"] < MOST_MEGABYTES


def test_errors_name_the_reason(results):
    for name, words in {
        "bomb-20000x20000-depth8-color2.png": ("ImageSizeError", "20000x20000 pixels, the limit is 50 megapixels"),
        "bomb-16777216x16777216-canvas.webp": ("ImageSizeError", "16777216x16777216 pixels"),
        "scans-400.jpeg": ("ImageError", "scans, the limit is 100"),
        "wrong-page.jpeg": ("ImageError", "not an image"),
        "empty.jpeg": ("ImageError", "no bytes"),
        "mode-float32.tiff": ("ImageError", "floating-point"),
    }.items():
        found, message = results[f"error/{name}"]
        assert found == words[0] and words[1] in message, (name, message)
