"""Confidence of labels against loops over the pixels, and what the audit says of labels with known faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfwsss.label_audit import agreement, audit_photo, pixel_confidence

VALUES = st.sampled_from([0, 1, 3, 255])


@st.composite
def label_maps(draw, count, values=VALUES):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    return [draw(hnp.arrays(np.uint8, shape, elements=values)) for _ in range(count)]


@given(label_maps(2), st.sampled_from([0, 1, 3]))
def test_agreement_equals_a_loop(maps, value):
    both = either = 0
    for one, other in zip(maps[0].ravel(), maps[1].ravel(), strict=True):
        if other != 255:
            both += one == value and other == value
            either += one == value or other == value
    assert agreement(*maps, value) == (both / either if either else 0)


@given(label_maps(4))
def test_pixel_confidence_equals_a_loop(maps):
    label, *readings = maps
    found = pixel_confidence(label, readings)
    assert found.dtype == np.float32
    for index in np.ndindex(label.shape):
        opinions = [reading[index] for reading in readings if reading[index] != 255]
        agreeing = sum(opinion == label[index] for opinion in opinions)
        assert found[index] == pytest.approx(agreeing / len(opinions) if opinions else 0)


def square(side, value=1, corner=0):
    label = np.zeros((20, 20), np.uint8)
    label[corner : corner + side, corner : corner + side] = value
    return label


@pytest.mark.parametrize(
    ("plain", "normalised", "sure", "confidence", "share", "reason"),
    [
        (square(10), square(10), square(10), 1.0, 0.25, "walk and normalised walk agree on 100%"),
        (square(10), square(5), square(10), (0.25 + 1) / 2, 0.25, "walk and normalised walk agree on 25%"),
        (square(10), square(10), square(5), (1 + 0.25) / 2, 0.25, "label and sure pixels of the CAMs agree on 25%"),
        (square(1), square(10), square(10), (0.01 + 1) / 2, 0.25, "has vanished from the walk, is back in the normalised one"),
        (square(0), square(1), square(10), 0.01 / 2, 1 / 400, "has vanished from the label"),
        (square(10), square(10), np.full((20, 20), 255, np.uint8), 0.5, 0.25, "label and sure pixels of the CAMs agree on 0%"),
    ],
)
def test_confidence_and_reason_of_a_class(plain, normalised, sure, confidence, share, reason):
    (doubt,) = audit_photo("farm/dog 3", [0], plain, normalised, sure, 0.01)
    assert (doubt.photo, doubt.label_class, doubt.reason) == ("farm/dog 3", 0, reason)
    assert (doubt.confidence, doubt.share) == pytest.approx((confidence, share))


def test_every_tag_has_its_line_and_a_photo_without_tags_has_none():
    label = np.maximum(square(8), square(4, 3, corner=12))
    doubts = audit_photo("a", [2, 0], label, label, square(8), 0.01)
    assert [doubt.label_class for doubt in doubts] == [0, 2]
    assert [doubt.confidence for doubt in doubts] == [1.0, 0.5]
    assert audit_photo("a", [], square(0), square(0), square(0), 0.01) == []
