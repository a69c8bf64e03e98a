"""The image operations of the optional augmentations against formulas and, where it is installed, tensorflow-addons."""

import random

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from tfwsss import stack
from tfwsss.config import Augmentation
from tfwsss.data.changes import Changes, hole_side
from tfwsss.stack.geometry import output_to_input

with_addons = pytest.mark.skipif(stack.NAME != "addons", reason="compares with tensorflow-addons: make test-addons")


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)


def test_quarter_turns_are_exact(image):
    square = image[:40, :40].astype(np.float32)
    for turns in range(4):
        found = stack.warp(square, turns * np.pi / 2, 0.0, bilinear=True, fill=0.0)
        np.testing.assert_allclose(found[1:-1, 1:-1], np.rot90(square, turns)[1:-1, 1:-1], atol=0.05)
        found = stack.warp(square, turns * np.pi / 2, 0.0, bilinear=False, fill=0.0)
        np.testing.assert_array_equal(found[1:-1, 1:-1], np.rot90(square, turns)[1:-1, 1:-1])


def test_shear_moves_rows_about_the_centre(image):
    found = stack.warp(image[..., :1], 0.0, 2.0, bilinear=False, fill=255)
    for row in range(40):
        shift = int(round(2.0 * (row - 39 / 2)))
        expected = np.full(56, 255)
        source = np.arange(56) - shift
        inside = (source >= 0) & (source < 56)
        expected[inside] = image[row, source[inside], 0]
        np.testing.assert_array_equal(found[row, :, 0], expected)


def test_warp_against_a_loop(image):
    """Bilinear interpolation written out, with the fill value as the colour of everything outside."""
    angle, shear, fill = 0.4, 0.3, 7.0
    values = image.astype(np.float32)
    a0, a1, a2, b0, b1, b2, _, _ = output_to_input(40, 56, angle, shear).astype(np.float64)
    found = stack.warp(values, angle, shear, bilinear=True, fill=fill)

    def at(y, x):
        return values[y, x] if 0 <= y < 40 and 0 <= x < 56 else fill

    for y in range(0, 40, 3):
        for x in range(0, 56, 3):
            u, v = a0 * x + a1 * y + a2, b0 * x + b1 * y + b2
            left, top = int(np.floor(u)), int(np.floor(v))
            s, t = u - left, v - top
            expected = (at(top, left) * (1 - s) + at(top, left + 1) * s) * (1 - t) + (at(top + 1, left) * (1 - s) + at(top + 1, left + 1) * s) * t
            np.testing.assert_allclose(found[y, x], expected, atol=0.05)


@with_addons
@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi])
def test_warp_is_tfas_rotation(image, angle):
    import tensorflow_addons as tfa

    values = image.astype(np.float32)
    expected = tfa.image.rotate(values, angle, interpolation="bilinear", fill_value=3.0)
    np.testing.assert_allclose(stack.warp(values, angle, 0.0, bilinear=True, fill=3.0), expected, atol=0.05)


@with_addons
def test_warp_is_tfas_shear_but_about_the_centre(image):
    """tfa.image.shear_x keeps the top row where it is; ours keeps the middle. Inside, they differ by that shift alone."""
    import tensorflow_addons as tfa

    expected = tfa.image.shear_x(tf.constant(image), -2.0, [9, 9, 9]).numpy()  # its level is that of output -> input
    found = stack.warp(image, 0.0, 2.0, bilinear=False, fill=9)
    np.testing.assert_array_equal(found[:, : 56 - 39], expected[:, 39:])


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7, 2.0])
def test_sharpness_is_pillows_up_to_rounding(image, factor):
    """tensorflow-addons cuts the smoothed levels off, Pillow rounds them: up to one level, times the distance to 1."""
    expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)).astype(int)
    found = stack.sharpen(image, factor).astype(int)
    assert found.shape == image.shape
    assert np.abs(found - expected).max() <= (0 if stack.NAME == "keras3" else 2)
    if factor != 1.0:
        assert np.abs(found - image)[1:-1, 1:-1].max() > 20
    np.testing.assert_array_equal(found[0], image[0])  # no neighbours there, so unchanged on both stacks


@pytest.mark.parametrize("centers", [[[20, 20], [5, 30]], [[0, 0], [40, 56]], [[3, 55], [39, 2]]])
def test_cutout_against_a_loop(image, centers):
    images = np.stack([image, image[::-1]]).astype(np.float32) + 1.0
    found = stack.cutout(tf.constant(images), tf.constant(centers, tf.int32), 12).numpy()
    for number, (row, column) in enumerate(centers):
        expected = images[number].copy()
        expected[max(row - 6, 0) : row + 6, max(column - 6, 0) : column + 6] = 0
        np.testing.assert_array_equal(found[number], expected)


def test_f1_is_the_mean_over_the_classes():
    tags = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    probabilities = np.array([[0.9, 0.2, 0.4], [0.6, 0.3, 0.2], [0.7, 0.1, 0.8], [0.4, 0.9, 0.3]], np.float32)
    metric = stack.f1_score(3)
    metric.update_state(tags[:3], probabilities[:3])
    metric.update_state(tags[3:], probabilities[3:])
    chosen = probabilities > 0.5
    both, sums = (tags * chosen).sum(axis=0), tags.sum(axis=0) + chosen.sum(axis=0)
    np.testing.assert_allclose(float(metric.result()), (2 * both / sums).mean(), atol=1e-6)
    metric.reset_state()
    metric.update_state(tags, tags)
    assert float(metric.result()) == pytest.approx(1.0)


def test_nothing_is_drawn_for_what_is_off():
    rng = random.Random(4)
    changes = Changes.draw(Augmentation(), 64, rng)
    assert rng.random() == random.Random(4).random()
    array = np.zeros((4, 4, 3), np.uint8)
    assert changes.sharpen(array) is changes.warp(array, 0.0) is changes.warp_label(array, 255) is array


def test_draws_cover_their_ranges():
    settings = Augmentation(rotate=30, shear=0.2, sharpness=0.5, cutout=0.3)
    rng = random.Random(0)
    drawn = [Changes.draw(settings, 64, rng) for _ in range(500)]
    side = hole_side(settings, 64)
    assert side == 20
    for values, low, high in (
        ([np.degrees(c.angle) for c in drawn], -30, 30),
        ([c.shear for c in drawn], -0.2, 0.2),
        ([c.sharpness for c in drawn], 0.5, 1.5),
        ([c.hole[0] for c in drawn], side // 2, 64 - side // 2),
        ([c.hole[1] for c in drawn], side // 2, 64 - side // 2),
    ):
        assert low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
