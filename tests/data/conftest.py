"""Small data sets on disk for the tests of the readers, the checks and the doctor."""

import numpy as np
import pytest
from PIL import Image

from tfwsss.storage.artifacts import save_label


@pytest.fixture
def write_photo(tmp_path):
    """write_photo(name, height=40, width=48, seed=0): a noise photo below tmp_path; returns its path."""

    def write(name, height=40, width=48, seed=0):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_table(tmp_path):
    """write_table(*lines, name="tags.csv"): a table below tmp_path, the header first unless given; returns its path."""

    def write(*lines, name="tags.csv", header="image,tags", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join((header, *lines)).encode(encoding))
        return path

    return write


@pytest.fixture
def write_mask(tmp_path):
    """write_mask(folder, image_id, label): an indexed PNG below tmp_path."""

    def write(folder, image_id, label):
        save_label(tmp_path / folder, image_id, np.asarray(label, np.uint8))

    return write
