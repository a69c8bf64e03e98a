"""Labels that keep what the tags say, against a loop over the pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfwsss.tag_consistency import agreed_label, confident_label, mean_kept, missing, normalized, vanished

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=7)
SHARES = st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.0])


@st.composite
def votes(draw):
    """Two labels of a photo tagged with some of the classes 0, 2 and 5."""
    classes = draw(st.lists(st.sampled_from([0, 2, 5]), unique=True).map(sorted))
    shape = draw(SHAPES)
    labels = st.sampled_from([0, *(k + 1 for k in classes)])
    return [draw(hnp.arrays(np.uint8, shape, elements=labels)) for _ in range(2)], classes


def lost(label, classes, smallest_share):
    return tuple(k for k in classes if sum(pixel == k + 1 for pixel in label.ravel()) / label.size < smallest_share)


@given(votes(), SHARES)
def test_the_label_equals_a_loop_over_the_pixels(photo, smallest_share):
    (plain, normalised), classes = photo
    assert vanished(plain, classes, smallest_share) == lost(plain, classes, smallest_share)
    label = agreed_label(plain, normalised, classes, smallest_share)
    assert label.dtype == np.uint8 and label.shape == plain.shape
    gone = lost(normalised, classes, smallest_share) if lost(plain, classes, smallest_share) else ()
    assert missing(plain, normalised, classes, smallest_share) == gone
    for pixel, one, other in zip(label.ravel(), plain.ravel(), normalised.ravel(), strict=True):
        if gone:
            assert pixel == 255
        elif lost(plain, classes, smallest_share):
            assert pixel == other
        else:
            assert pixel == (one if one == other else 255)


@given(votes(), SHARES)
def test_two_equal_labels_stay_or_are_left_out(photo, smallest_share):
    (plain, _), classes = photo
    label = agreed_label(plain, plain, classes, smallest_share)
    np.testing.assert_array_equal(label, np.full_like(plain, 255) if lost(plain, classes, smallest_share) else plain)


def test_ignored_pixels_are_no_class_but_pixels_of_the_photo():
    label = np.array([[1, 255, 255, 0]], np.uint8)
    assert vanished(label, [0], 0.25) == () and vanished(label, [0], 0.26) == (0,)
    assert vanished(label, [254 - 1], 0.01) == (253,)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), elements=st.floats(0, 1, width=32)), st.data())
def test_normalised_maps_do_not_depend_on_the_scale_of_a_channel(walked, data):
    result = normalized(walked)
    assert result.dtype == np.float32 and result.shape == walked.shape
    for channel, found in zip(walked, result, strict=True):
        assert found.max() == (1 if channel.any() else 0)
    factors = np.array([data.draw(st.sampled_from([0.125, 1, 4])) for _ in walked], np.float32)[:, None, None]
    small = walked[walked > 0].min(initial=1) < 1e-30  # the product would be rounded to a denormal number
    if not small:
        np.testing.assert_array_equal(normalized(walked * factors), result)


def test_a_diluted_map_comes_back():
    walked = np.full((2, 4, 4), 0.5, np.float32)
    walked[1] = 0.05
    walked[0, 1:3, 1:3], walked[1, 1:3, 1:3] = 0.4, 0.3
    assert (walked.argmax(axis=0) == 0).all()
    assert (normalized(walked).argmax(axis=0) == np.pad(np.ones((2, 2), int), 1)).all()


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_a_photo_without_classes_stays_background(share):
    label = np.zeros((3, 4), np.uint8)
    np.testing.assert_array_equal(agreed_label(label, label, [], share), label)


@given(votes(), SHARES)
def test_a_confident_label_stays_or_is_left_out_as_a_whole(photo, smallest_share):
    (label, _), classes = photo
    found = confident_label(label, classes, smallest_share)
    np.testing.assert_array_equal(found, np.full_like(label, 255) if lost(label, classes, smallest_share) else label)


def test_kept_tags_count_alike_for_rare_and_frequent_classes():
    photos = [((0,), ()), ((0,), ()), ((0, 2), (2,)), ((2,), (2,)), ((), ())]
    assert mean_kept(photos) == 0.5
    assert mean_kept([((0, 1), (1,)), ((1,), ())]) == 0.75
    assert mean_kept([((), ())]) == 1.0
