"""Photos that are made smaller as they are read (`data.long_side`), and all that goes with them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tfwsss.config import FolderData
from tfwsss.data import load_split
from tfwsss.data.check import check_images
from tfwsss.data.image import reduced, reduced_size, with_nearest
from tfwsss.data.mask_check import OTHER_SIZE, examine_masks
from tfwsss.data.strong_masks import check_strong_masks
from tfwsss.export.photo_size import reduced_photos
from tfwsss_onnx import photo_size

sides, limits = st.integers(1, 300), st.integers(1, 200)


@pytest.fixture
def dataset(tmp_path, write_photo, write_table, write_mask):
    """Photos of 300x200, 200x300 and 90x60, the first with both kinds of mask."""
    for name, height, width in (("wide", 200, 300), ("tall", 300, 200), ("small", 60, 90)):
        write_photo(f"{name}.png", height, width, seed=width)
    write_table("wide.png,dog", "tall.png,dog", "small.png,dog")
    mask = np.zeros((200, 300), np.uint8)
    mask[50:150, 100:300] = 1
    write_mask("masks", "wide", mask)
    write_mask("strong", "wide", mask)
    return load_split(FolderData(format="folder", root=tmp_path, mask_folder="masks", strong_masks="strong", long_side=96), "train", tmp_path)


def test_photos_and_masks_are_made_smaller(dataset):
    sizes = {sample.id: dataset.read(sample).shape for sample in dataset.samples}
    assert sizes == {"wide": (64, 96, 3), "tall": (96, 64, 3), "small": (60, 90, 3)}
    wide = dataset.samples[0]
    np.testing.assert_array_equal(dataset.read(wide), np.asarray(dataset.picture(wide)))
    assert dataset.read(wide).flags.writeable
    for mask in (dataset.mask(wide), dataset.strong_mask(wide)):
        assert mask.shape == (64, 96) and (mask[16:48, 32:] == 1).all() and mask.sum() == 32 * 64
    full = dataset.at_full_size()
    assert full.read(wide).shape == (200, 300, 3) and full.mask(wide).shape == full.strong_mask(wide).shape == (200, 300)


def test_masks_are_examined_against_the_photos_as_they_are_in_their_files(dataset):
    _, digests = check_images(dataset, workers=1)
    assert set(digests) == {"wide", "tall", "small"}
    problems, strong = check_strong_masks(dataset)
    assert problems == [] and set(strong) == {"wide"}
    from tfwsss.data.check import inspect_images

    assert examine_masks(dataset, inspect_images(dataset, 1)).problems[OTHER_SIZE] == []


def test_photos_that_become_too_small_are_left_out(dataset, write_photo):
    write_photo("small.png", 40, 400)
    problems, _ = check_images(dataset, workers=1)
    assert [(one.id, one.reason) for one in problems] == [("small", "too small: 96x10 px once its long side has 96 (data.long_side), expected at least 32x32")]
    assert check_images(dataclasses.replace(dataset, long_side=None), workers=1)[0] == []


@settings(max_examples=60, deadline=None)
@given(sides, sides, limits)
def test_every_reduction_is_the_same(height, width, limit):
    """Of training, of the ONNX runtime and, but for rounding, of the SavedModel's graph."""
    photo = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    expected = np.asarray(reduced(Image.fromarray(photo), limit))
    assert expected.shape[:2] == reduced_size(height, width, limit) == photo_size.reduced_size(height, width, limit) and max(expected.shape[:2]) <= max(limit, 1)
    np.testing.assert_array_equal(photo_size.reduced(photo, limit), expected)
    in_graph = reduced_photos(tf.constant(photo)[tf.newaxis], limit).numpy()[0]
    assert in_graph.shape == expected.shape and np.abs(in_graph.astype(int) - expected).max() <= 1


@settings(max_examples=60, deadline=None)
@given(sides, sides, limits)
def test_labels_that_are_enlarged_and_reduced_are_as_before(height, width, limit):
    size = reduced_size(height, width, limit)
    label = np.random.default_rng(limit).integers(0, 256, size, np.uint8)
    large = with_nearest(label, (height, width))
    assert large.shape == (height, width)
    np.testing.assert_array_equal(with_nearest(large, size), label)
    np.testing.assert_array_equal(photo_size.enlarged(label, height, width), large)
