import numpy as np
import pytest
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.report.strip import GAP, HEADING_HEIGHT, MAX_BYTES, strip


def draw(rows, path):
    strip(rows, path)
    assert path.stat().st_size < MAX_BYTES
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def test_one_line_for_each_image_and_one_column_for_each_step(tmp_path, make_row):
    photo = np.full((50, 120, 3), (10, 60, 200), np.uint8)
    label = np.full((50, 120), 3, np.uint8)
    rows = [make_row(photo=photo, pseudo_label=label, cam=None, affinity_label=None, walk=None, prediction=None, mask=None)] * 2
    picture = draw(rows, tmp_path / "docs" / "strip.png")
    assert picture.shape == (HEADING_HEIGHT + 2 * (50 + GAP), 2 * (120 + GAP) + GAP, 3)
    for top in (HEADING_HEIGHT, HEADING_HEIGHT + 50 + GAP):
        np.testing.assert_allclose(picture[top : top + 50, GAP : GAP + 120].mean((0, 1)), (10, 60, 200), atol=3)
        olive = picture[top + 25, 2 * GAP + 120 + 60]
        assert olive[0] > olive[2] + 50
    for left in (GAP, 2 * GAP + 120):  # each column has a heading in dark ink
        assert picture[:HEADING_HEIGHT, left : left + 120].min() < 120


def test_portrait_stands_in_the_middle_of_its_column(tmp_path, make_row):
    blank = dict(cam=None, affinity_label=None, walk=None, pseudo_label=None, prediction=None, mask=None)
    rows = [make_row(photo=np.zeros((40, 100, 3), np.uint8), **blank), make_row(photo=np.zeros((100, 60, 3), np.uint8), **blank)]
    line = draw(rows, tmp_path / "strip.png")[HEADING_HEIGHT + 40 + GAP + 50, :, 0]
    dark = np.flatnonzero(line < 128)
    assert (dark[0], dark[-1]) == (GAP + 20, GAP + 79)


def test_missing_panel_leaves_its_place_blank(tmp_path, make_row):
    rows = [make_row(height=60, width=120), make_row(height=60, width=120, cam=None)]
    picture = draw(rows, tmp_path / "strip.png")
    top, left = HEADING_HEIGHT + 60 + GAP, 2 * GAP + 120
    assert (picture[top : top + 60, left : left + 120] > 250).all()
    assert (picture[HEADING_HEIGHT : HEADING_HEIGHT + 60, left : left + 120] < 250).any()


def test_many_noisy_images_are_shrunk_to_the_limit(tmp_path, make_row):
    picture = draw([make_row(str(index), 375, 500, seed=index) for index in range(8)], tmp_path / "strip.png")
    assert picture.shape[1] > 600


def test_no_images(tmp_path):
    with pytest.raises(DataError, match="at least one image"):
        strip([], tmp_path / "strip.png")
    assert list(tmp_path.iterdir()) == []
