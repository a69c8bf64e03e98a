"""Sizes of classes: the exponent puts the threshold where the maps cover the usual share, whatever they looked like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfwsss.background import CamHistogram
from tfwsss.errors import DataError
from tfwsss.size_prior import MARGIN, RANGE, THRESHOLD, exponent, sized


@given(st.floats(0.3, 4.0), st.floats(0.005, 0.3), st.integers(0, 2**31))
def test_the_share_above_the_threshold_is_the_usual_one(shape, share, seed):
    cam = np.random.default_rng(seed).random((1, 100, 120)) ** shape
    found = exponent(CamHistogram().update(cam), share)
    assert RANGE[0] <= found <= RANGE[1]
    covered = (sized([3], cam, {3: found}) > THRESHOLD).mean()
    if RANGE[0] < found < RANGE[1]:
        assert covered == pytest.approx(MARGIN * share, abs=0.01)


def test_maps_of_other_classes_stay():
    cam = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    found = sized([0, 4], cam, {4: 2.0})
    np.testing.assert_array_equal(found[0], cam[0])
    np.testing.assert_allclose(found[1], cam[1] ** 2, rtol=1e-6)
    assert sized([0, 4], cam, {}) is cam


def test_order_and_range_are_kept():
    cam = np.array([[[0.0, 0.2, 0.5, 1.0]]], np.float32)
    found = sized([0], cam, {0: 6.5})[0, 0]
    assert (np.diff(found) > 0).all() and found[0] == 0 and found[-1] == 1


def test_no_photo_is_said():
    with pytest.raises(DataError, match="empty"):
        exponent(CamHistogram(), 0.1)


def test_value_above_which_is_the_quantile():
    values = np.random.default_rng(1).random((1, 200, 200))
    histogram = CamHistogram().update(values)
    for share in (0.001, 0.1, 0.5, 0.9):
        assert histogram.value_above_which(share) == pytest.approx(np.quantile(values, 1 - share), abs=1 / 256)
    assert histogram.value_above_which(0.0) == pytest.approx(1.0) and histogram.value_above_which(1.0) == pytest.approx(0.0)
