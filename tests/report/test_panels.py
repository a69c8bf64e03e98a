import io

import numpy as np
import pytest
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.report.panels import (
    MAX_BYTES,
    MAX_SIDE,
    cam_panel,
    encode_jpeg,
    encode_png,
    label_panel,
    photo_panel,
    thumbnail_size,
)
from tfwsss.storage.artifacts import voc_palette

PALETTE = voc_palette().astype(float)
GREY = np.full((40, 60, 3), 120, np.uint8)


def distance(panel, colour):
    return np.abs(panel.astype(float) - colour).max(axis=-1)


@pytest.mark.parametrize(
    ("size", "expected"), [((375, 500), (192, 256)), ((100, 80), (100, 80)), ((1, 1), (1, 1)), ((1, 8000), (1, 256)), ((8000, 6000), (256, 192))]
)
def test_thumbnail_size(size, expected):
    assert thumbnail_size(*size) == expected


def test_photo_that_fits_is_unchanged():
    photo = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    np.testing.assert_array_equal(photo_panel(photo), photo)


def test_cam_ink_grows_with_the_score_and_takes_the_strongest_class():
    cam = np.zeros((2, 40, 60), np.float32)
    cam[0, :, :20] = np.linspace(0, 1, 20)
    cam[1, :, 40:] = 1.0
    cam[0, :, 40:] = 0.3
    panel = cam_panel(GREY, np.array([3, 6]), cam)
    bare = panel[0, 30]
    assert bare[0] == bare[1] == bare[2]  # nothing but pale grey between the two
    ramp = distance(panel[0, :20], PALETTE[4])
    assert (np.diff(ramp) < 0).all()
    assert distance(panel[:, 41:], PALETTE[7]).max() < 0.15 * 255
    assert distance(panel[:, 19], PALETTE[4]).max() < 0.15 * 255


def test_cam_without_classes_is_the_pale_photo():
    panel = cam_panel(GREY, np.zeros(0, np.int32), np.zeros((0, 5, 5), np.float32))
    assert panel.shape == GREY.shape and (panel == panel[0, 0]).all() and panel[0, 0, 0] > 120


def test_cam_of_nan_and_out_of_range_values_draws():
    cam = np.array([[[np.nan, 7.0], [-3.0, 0.0]]], np.float32)
    panel = cam_panel(np.full((2, 2, 3), 120, np.uint8), np.array([0]), cam)
    np.testing.assert_array_equal(panel[0, 0], panel[1, 1])
    np.testing.assert_array_equal(panel[1, 0], panel[1, 1])
    assert distance(panel[0, 1], PALETTE[1]) < 0.15 * 255


def test_label_colours_edges_and_bare_background():
    label = np.zeros((40, 60), np.int64)
    label[10:30, 10:30] = 5
    panel = label_panel(GREY, label)
    bare = cam_panel(GREY, np.zeros(0, int), np.zeros((0, 1, 1)))
    np.testing.assert_array_equal(panel[label == 0], bare[label == 0])
    np.testing.assert_array_equal(panel[10, 15], PALETTE[5])  # the edge is solid
    inside = panel[20, 20].astype(float)
    expected = bare[20, 20] * 0.34 + PALETTE[5] * 0.66
    np.testing.assert_allclose(inside, expected, atol=1)


def test_ignored_pixels_are_hatched_in_light_and_dark():
    panel = label_panel(GREY, np.full((40, 60), 255, np.uint8))
    shades = np.unique(panel.reshape(-1, 3), axis=0)
    assert len(shades) == 2
    assert (shades[:, 0] == shades[:, 1]).all() and (shades[:, 1] == shades[:, 2]).all()
    assert shades[1, 0] - shades[0, 0] > 80


def test_coarse_label_keeps_its_cells():
    label = np.array([[1, 0], [0, 2]], np.uint8)
    panel = label_panel(np.full((32, 32, 3), 50, np.uint8), label)
    assert distance(panel[4, 4], PALETTE[1]) < distance(panel[4, 4], PALETTE[2])
    assert distance(panel[28, 28], PALETTE[2]) < distance(panel[28, 28], PALETTE[1])
    assert len(set(panel[4, 28].tolist())) == 1  # grey: background


@pytest.mark.parametrize(
    "label", [np.zeros((4, 4)), np.zeros((4, 4, 1), np.uint8), np.zeros((0, 4), np.uint8), np.full((4, 4), -1), np.full((4, 4), 256)]
)
def test_wrong_labels_are_refused(label):
    with pytest.raises(DataError, match="label map: expected"):
        label_panel(GREY, label)


@pytest.mark.parametrize("cam", [np.zeros((1, 4, 4)), np.zeros((2, 4)), np.zeros((2, 0, 4))])
def test_wrong_cams_are_refused(cam):
    with pytest.raises(DataError, match=r"expected \[2, h, w\]"):
        cam_panel(GREY, np.array([0, 1]), cam)


@pytest.mark.parametrize("photo", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_wrong_photos_are_refused(photo):
    with pytest.raises(DataError, match="photo: expected"):
        photo_panel(photo)


def test_jpeg_of_noise_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (MAX_SIDE, MAX_SIDE, 3), np.uint8)
    content = encode_jpeg(noise)
    assert len(content) <= MAX_BYTES
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "JPEG" and min(picture.size) > MAX_SIDE // 2


def test_jpeg_keeps_the_colours_of_a_smooth_panel():
    label = np.zeros((100, 100), np.uint8)
    label[30:70, 30:70] = 1
    panel = label_panel(np.full((100, 100, 3), 90, np.uint8), label)
    with Image.open(io.BytesIO(encode_jpeg(panel))) as picture:
        assert np.abs(np.asarray(picture).astype(int) - panel).mean() < 2


def test_png_is_lossless():
    panel = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    with Image.open(io.BytesIO(encode_png(panel))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), panel)
