"""Augmentation against the reference's arrays, brute-force loops and textbook colour formulas."""

import colorsys
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from tfwsss.data import augment, colour_jitter
from tfwsss.normalization import CAFFE_VGG16, SYMMETRIC, TORCH

GOLDEN = Path(__file__).parents[1] / "golden"
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "preprocess.npz"))


@pytest.mark.golden
class TestReference:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_resize_long(self, golden, seed):
        image = Image.fromarray(golden["image"])
        result = augment.resize_long(image, (40, 80), random.Random(seed), BICUBIC)
        np.testing.assert_array_equal(np.asarray(result), golden[f"resize_long_40_80_seed{seed}"])

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("size", [32, 48])
    def test_random_crop(self, golden, size, seed):
        result = augment.random_crop(golden["image"], size, random.Random(seed), 0)
        np.testing.assert_array_equal(result, golden[f"random_crop{size}_seed{seed}"])

    @pytest.mark.parametrize("size", [30, 50])
    def test_center_crop(self, golden, size):
        np.testing.assert_array_equal(augment.center_crop(golden["image"], size, 0), golden[f"center_crop{size}"])

    def test_normalization(self, golden):
        np.testing.assert_allclose(TORCH(golden["image"]), golden["norm_resnet38"], atol=1e-6, rtol=0)
        np.testing.assert_allclose(CAFFE_VGG16(golden["image"]), golden["norm_vgg16"], atol=8e-6, rtol=0)  # float32 at 128


def test_filter_switch():
    assert augment.pil_filter("faithful") == BICUBIC
    assert augment.pil_filter("corrected") == BILINEAR


# --------------------------------------------------------------------------------------------------- scaling


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.integers(0, 30), st.integers(0, 2**32))
def test_resize_long_keeps_the_proportions(height, width, low, extra, seed):
    image = Image.new("RGB", (width, height))
    result = augment.resize_long(image, (low, low + extra), random.Random(seed), BILINEAR)
    long, short = max(result.size), min(result.size)
    assert low <= long <= low + extra
    assert (result.width >= result.height) == (width >= height) or long == short
    assert abs(short - max(1, min(height, width) * long / max(height, width))) <= 0.5


def test_resize_long_reaches_both_ends_of_the_interval():
    image, rng = Image.new("RGB", (8, 4)), random.Random(0)
    assert {augment.resize_long(image, (5, 7), rng, BILINEAR).width for _ in range(60)} == {5, 6, 7}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_random_scale_scales_both_sides_alike(height, width, seed):
    scale = random.Random(seed).uniform(0.5, 1.5)
    result = augment.random_scale(Image.new("RGB", (width, height)), (0.5, 1.5), random.Random(seed), BILINEAR)
    assert result.size == (max(1, round(width * scale)), max(1, round(height * scale)))


def test_labels_resize_without_new_values():
    label = np.random.default_rng(0).choice(np.uint8([0, 3, 255]), (17, 23))
    result = augment.resize_label(label, (31, 11))
    rows = np.floor((np.arange(11) + 0.5) * 17 / 11).astype(int)
    columns = np.floor((np.arange(31) + 0.5) * 23 / 31).astype(int)
    np.testing.assert_array_equal(result, label[np.ix_(rows, columns)])


# -------------------------------------------------------------------------------------------------- cropping


def brute_crop(array, window, fill):
    """Pixel by pixel, from the window's offsets."""
    result = np.empty((window.size, window.size, *array.shape[2:]), array.dtype)
    for y in range(window.size):
        for x in range(window.size):
            source_y = y - window.canvas_top + window.image_top
            source_x = x - window.canvas_left + window.image_left
            inside = 0 <= source_y < array.shape[0] and 0 <= source_x < array.shape[1]
            result[y, x] = array[source_y, source_x] if inside else fill
    return result


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**32))
def test_crop_equals_brute_force(height, width, size, seed):
    image = np.arange(1, height * width * 3 + 1, dtype=np.float32).reshape(height, width, 3)
    label = image[..., 0].astype(np.int32)
    fill = (-1.0, -2.0, -3.0)
    for window in (
        augment.CropWindow.random(height, width, size, random.Random(seed)),
        augment.CropWindow.center(height, width, size),
    ):
        crop = window.crop(image, fill)
        np.testing.assert_array_equal(crop, brute_crop(image, window, fill))
        # All of the image that fits is there, once: nothing is cut off that need not be.
        inside = (crop >= 0).all(axis=-1)
        assert inside.sum() == min(height, size) * min(width, size)
        np.testing.assert_array_equal(window.crop(label, -1), np.where(inside, crop[..., 0], -1))


@pytest.mark.parametrize(("length", "size", "places"), [(7, 4, 4), (4, 7, 4), (5, 5, 1)])
def test_random_crop_uses_every_place(length, size, places):
    rng = random.Random(0)
    windows = [augment.CropWindow.random(length, length, size, rng) for _ in range(200)]
    assert {(w.image_top, w.canvas_top) for w in windows} == {
        (i, 0) if length > size else (0, i) for i in range(places)
    }
    assert len({(w.image_top, w.canvas_top, w.image_left, w.canvas_left) for w in windows}) == places**2


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40))
def test_center_crop_margins_differ_by_one_at_most(length, size):
    window = augment.CropWindow.center(length, length, size)
    before = window.image_top if length > size else window.canvas_top
    assert abs(abs(length - size) - 2 * before) <= 1


# ---------------------------------------------------------------------------------------------------- colour


class Scripted:
    """A generator that returns given values: makes one operation of the jitter visible."""

    def __init__(self, order, factors):
        self.order, self.factors = order, list(factors)

    def sample(self, population, k):
        assert sorted(population) == [0, 1, 2, 3] and k == 4
        return self.order

    def uniform(self, low, high):
        value = self.factors.pop(0)
        assert low <= value <= high
        return value


@pytest.fixture
def photo():
    return np.random.default_rng(5).integers(0, 256, (24, 31, 3), dtype=np.uint8)


def grey(pixels):
    return pixels.astype(np.float64) @ [0.299, 0.587, 0.114]


def jitter(pixels, order=(0, 1, 2, 3), brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    rng = Scripted(order, (brightness, contrast, saturation, hue))
    return augment.color_jitter(pixels, rng).astype(np.float64)


def hue_roundtrip(pixels):
    return np.asarray(Image.fromarray(pixels).convert("HSV").convert("RGB")).astype(np.float64)


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_brightness_scales(photo, factor):
    expected = np.clip(hue_roundtrip(photo) * factor, 0, 255)
    assert np.abs(jitter(photo, (3, 0, 1, 2), brightness=factor) - expected).max() <= 1


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_contrast_moves_away_from_the_mean_grey(photo, factor):
    base = hue_roundtrip(photo)
    mean = grey(base).mean()
    expected = np.clip(mean + factor * (base - mean), 0, 255)
    assert np.abs(jitter(photo, (3, 0, 1, 2), contrast=factor) - expected).max() <= 1.5


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_saturation_moves_away_from_the_pixels_grey(photo, factor):
    base = hue_roundtrip(photo)
    pixel_grey = grey(base)[..., None]
    expected = np.clip(pixel_grey + factor * (base - pixel_grey), 0, 255)
    assert np.abs(jitter(photo, (3, 0, 1, 2), saturation=factor) - expected).max() <= 1.5


@pytest.mark.parametrize("shift", [-0.1, 0.04, 0.1])
def test_hue_turns_the_colour_circle(photo, shift):
    expected = np.empty(photo.shape)
    for y, x in np.ndindex(photo.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*photo[y, x] / 255)
        expected[y, x] = np.multiply(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value), 255)
    error = np.abs(jitter(photo, hue=shift) - expected)
    assert error.mean() < 2 and error.max() < 18  # a step of 8-bit hue moves a channel by up to 6
    unshifted = np.abs(photo - expected)
    assert unshifted.mean() > 4 * error.mean()


def test_operations_run_in_the_drawn_order():
    dark = np.full((4, 4, 3), 100, np.uint8)
    dark[:2] = 240
    first = jitter(dark, (0, 1, 2, 3), brightness=1.3, contrast=0.7)  # clips at 255, then pulls in
    second = jitter(dark, (1, 0, 2, 3), brightness=1.3, contrast=0.7)
    brightened = np.minimum(dark * 1.3, 255)
    mean = brightened.mean()
    assert np.abs(first - (mean + 0.7 * (brightened - mean))).max() <= 2
    assert np.abs(first - second).max() > 5


def test_jitter_draws_all_orders_and_full_ranges():
    rng = random.Random(1)
    pixels = np.full((2, 2, 3), (90, 120, 30), np.uint8)
    results = {augment.color_jitter(pixels, rng).tobytes() for _ in range(50)}
    assert len(results) > 40


@settings(deadline=None, max_examples=40)
@given(
    order=st.permutations(range(4)),
    factors=st.tuples(*[st.floats(0.0, 2.0)] * 3),
    hue=st.floats(-0.5, 0.5),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 2**32 - 1),
)
def test_jitter_is_pillows_to_the_bit(order, factors, hue, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    pixels.flags.writeable = False
    image = Image.fromarray(pixels)
    for operation in order:
        if operation < 3:
            kind = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[operation]
            image = kind(image).enhance(factors[operation])
        else:
            image = pillows_hue(image, int(hue * 255))
    np.testing.assert_array_equal(colour_jitter.jitter(pixels, order, *factors, hue), np.asarray(image))


def pillows_hue(image, steps):
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def test_every_colours_hue_turns_as_pillow_turns_it():
    """All colours of every fifth red: rounding is where a reimplementation goes wrong."""
    green, blue = np.meshgrid(np.arange(256), np.arange(256))
    for red in range(0, 256, 5):
        pixels = np.stack([np.full_like(green, red), green, blue], axis=2).astype(np.uint8)
        for hue in (-0.1, 0.03):
            expected = np.asarray(pillows_hue(Image.fromarray(pixels), int(hue * 255)))
            np.testing.assert_array_equal(colour_jitter.jitter(pixels, [3], 1, 1, 1, hue), expected)


@pytest.mark.parametrize("normalization", [TORCH, CAFFE_VGG16, SYMMETRIC])
def test_normalising_by_table_gives_the_same_numbers(photo, normalization):
    values = np.zeros((20, 40, 3), np.float32)
    colour_jitter.normalize_into(values[5:17, 3:34], photo[::2, ::-1], normalization)
    np.testing.assert_array_equal(values[5:17, 3:34], normalization(photo[::2, ::-1]))
    assert np.count_nonzero(values) == np.count_nonzero(values[5:17, 3:34])


def test_flip_is_fair():
    rng = random.Random(0)
    assert 440 < sum(augment.draw_flip(rng) for _ in range(1000)) < 560
