"""Confidence of labels against loops over the pixels, and what the audit says of labels with known faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfwsss.label_audit import agreement, audit_photo, margin, pixel_confidence

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)


@st.composite
def photos(draw):
    """Two label maps and the scores of up to three channels."""
    shape = draw(SHAPES)
    labels = [draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 3]))) for _ in range(2)]
    channels = draw(st.integers(1, 3))
    return *labels, draw(hnp.arrays(np.float32, (channels, *shape), elements=st.floats(0, 1, width=32)))


@given(photos(), st.sampled_from([0, 1, 3]))
def test_agreement_equals_a_loop(photo, value):
    both = either = 0
    for one, other in zip(photo[0].ravel(), photo[1].ravel(), strict=True):
        both += one == value and other == value
        either += one == value or other == value
    assert agreement(*photo[:2], value) == (both / either if either else 0)


@given(photos())
def test_pixel_confidence_equals_a_loop(photo):
    plain, normalised, scores = photo
    found = pixel_confidence(plain, normalised, scores)
    assert found.dtype == np.float32 and found.shape == plain.shape
    for index in np.ndindex(plain.shape):
        ranked = sorted((float(channel[index]) for channel in scores), reverse=True)
        lead = ranked[0] - ranked[1] if len(ranked) > 1 else 1.0
        assert margin(scores)[index] == pytest.approx(lead)
        assert found[index] == pytest.approx((lead + (plain[index] == normalised[index])) / 2)


def square(side, value=1, corner=0):
    label = np.zeros((20, 20), np.uint8)
    label[corner : corner + side, corner : corner + side] = value
    return label


LEAD = np.stack([np.full((20, 20), 0.2), np.full((20, 20), 0.8)])  # 0.6 everywhere


@pytest.mark.parametrize(
    ("plain", "normalised", "confidence", "share", "reason"),
    [
        (square(10), square(10), 0.8, 0.25, "is 60% ahead of the next map"),
        (square(10), square(5), (0.25 + 0.6) / 2, 0.25, "walk and normalised walk agree on 25%"),
        (square(1), square(10), (0.01 + 0.6) / 2, 0.25, "has vanished from the walk, is back in the normalised one"),
        (square(1), square(1), 0.8, 1 / 400, "has vanished from the label"),
        (square(0), square(0), 0, 0, "has vanished from the label"),
    ],
)
def test_confidence_and_reason_of_a_class(plain, normalised, confidence, share, reason):
    (doubt,) = audit_photo("farm/dog 3", [0], plain, normalised, LEAD, 0.01)
    assert (doubt.photo, doubt.label_class, doubt.reason) == ("farm/dog 3", 0, reason)
    assert (doubt.confidence, doubt.share) == pytest.approx((confidence, share))


def test_the_margin_is_that_of_the_class_own_pixels():
    label = np.maximum(square(8), square(4, 3, corner=12))
    scores = np.zeros((3, 20, 20))
    scores[1, :10], scores[2, 10:] = 0.5, 1.0
    doubts = audit_photo("a", [2, 0], label, label, scores, 0.01)
    assert [(doubt.label_class, doubt.confidence) for doubt in doubts] == [(0, 0.75), (2, 1.0)]
    assert audit_photo("a", [], square(0), square(0), scores[:1], 0.01) == []
