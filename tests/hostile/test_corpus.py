"""The hostile files themselves, and what the training's reader makes of them."""

import hashlib

import numpy as np
import pytest

from tests.hostile.corpus import corpus
from tfwsss.data.image import read_image
from tfwsss.errors import ImageError


@pytest.fixture(scope="module")
def files():
    return list(corpus())


def test_there_are_many_of_every_kind(files):
    names = [file.name for file in files]
    assert len(set(names)) == len(names) >= 500
    kinds = [name.partition("-")[0].partition(".")[0] for name in names]
    for kind in ("truncated", "flipped", "damaged", "wrong", "polyglot", "mode", "exif", "bomb", "animated"):
        assert kinds.count(kind) >= 3
    expected = [file.expectation.kind for file in files]
    assert min(expected.count(kind) for kind in ("error", "mask", "either")) >= 100


def test_they_are_the_same_each_time(files):
    def digests(found):
        return [hashlib.sha256(file.data).hexdigest() for file in found]

    small = [file for file in files if not file.name.startswith(("bomb", "animated", "scans"))]
    again = {file.name: file for file in corpus()}
    assert digests(small) == digests([again[file.name] for file in small])


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF
def test_the_reader_of_the_training_refuses_or_reads_them(files, tmp_path):
    path = tmp_path / "photo"
    wrong = []
    for name, data, (kind, size, pixels) in files:
        path.write_bytes(data)
        try:
            image = read_image(path)
        except ImageError as error:
            if kind == "mask":
                wrong.append(f"{name}: {error}")
            continue
        if kind == "error":
            wrong.append(f"{name}: read as {image.shape}, expected an error")
        elif kind == "mask" and image.shape[:2] != size:
            wrong.append(f"{name}: read as {image.shape}, expected {size}")
        elif pixels is not None and not np.array_equal(image, pixels):
            wrong.append(f"{name}: other pixels than were written")
    assert not wrong, "\n".join(wrong)
