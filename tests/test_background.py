"""Background exponents and confident labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.background import (
    CamHistogram,
    alpha_of_threshold,
    background_score,
    choose_alphas,
    combine_crf,
    threshold_of_alpha,
)
from tfwsss.errors import DataError


@given(st.floats(0.001, 0.999))
def test_threshold_and_alpha_are_inverse(threshold):
    alpha = alpha_of_threshold(threshold)
    assert (1 - threshold) ** alpha == pytest.approx(threshold, rel=1e-9)
    assert threshold_of_alpha(alpha) == pytest.approx(threshold, rel=1e-9)


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 16.0, 1e4])
def test_extreme_exponents_have_a_threshold(alpha):
    threshold = threshold_of_alpha(alpha)
    assert 0 < threshold < 1
    assert (1 - threshold) ** alpha == pytest.approx(threshold, rel=1e-9)


def test_background_score_is_the_power_of_what_no_class_claims():
    cam = np.array([[[0.0, 0.5, 1.0]], [[0.2, 0.1, 0.3]]], np.float32)
    np.testing.assert_allclose(background_score(cam, 2), [[0.64, 0.25, 0.0]], rtol=1e-6)
    np.testing.assert_array_equal(background_score(np.zeros((0, 2, 3)), 4), np.ones((2, 3)))


@pytest.mark.parametrize("function", [lambda v: background_score(np.zeros((1, 1, 1)), v), threshold_of_alpha])
@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_non_positive_exponents_are_refused(function, alpha):
    with pytest.raises(ValueError, match="alpha"):
        function(alpha)


@pytest.mark.parametrize("threshold", [0, 1, -0.2, float("nan")])
def test_thresholds_outside_of_the_open_interval_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        alpha_of_threshold(threshold)


def two_peaks(seed, dark, bright, part):
    rng = np.random.default_rng(seed)
    count = 20000
    values = np.where(rng.random(count) < part, rng.normal(bright, 0.03, count), rng.normal(dark, 0.03, count))
    return values.clip(0, 1).astype(np.float32).reshape(1, 100, 200)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.1, 0.3), st.floats(0.6, 0.9), st.floats(0.15, 0.85))
def test_otsu_finds_the_best_split_by_brute_force(seed, dark, bright, part):
    cam = two_peaks(seed, dark, bright, part)
    histogram = CamHistogram(64).update(cam)
    values = np.floor(cam.ravel() * 64).clip(0, 63) / 64 + 0.5 / 64

    def within(threshold):
        below, above = values[values < threshold], values[values >= threshold]
        return sum(part.var() * len(part) for part in (below, above) if len(part))

    found = histogram.otsu_threshold()
    best = min(within(edge / 64) for edge in range(1, 64))
    assert within(found) == pytest.approx(best, rel=1e-9)
    assert dark < found < bright


def test_histograms_of_workers_merge_to_the_same_choice():
    first, second = two_peaks(0, 0.1, 0.6, 0.3), two_peaks(1, 0.2, 0.7, 0.3)
    whole = CamHistogram().update(first).update(second)
    merged = CamHistogram().update(first).merge(CamHistogram().update(second))
    np.testing.assert_array_equal(whole.counts, merged.counts)
    assert whole.counts.sum() == 2 * 20000
    with pytest.raises(ValueError, match="bins"):
        whole.merge(CamHistogram(8))


def test_histogram_counts_the_strongest_class_and_skips_untagged_photos():
    histogram = CamHistogram(4).update(np.array([[[0.1, 0.3]], [[0.6, 1.0]]])).update(np.zeros((0, 5, 5)))
    np.testing.assert_array_equal(histogram.counts, [0, 0, 1, 1])
    with pytest.raises(DataError, match="NaN"):
        histogram.update(np.full((1, 2, 2), np.nan))


def test_alphas_straddle_the_split():
    # Peaks symmetric around 0.35: that is the split.
    histogram = CamHistogram().update(two_peaks(2, 0.1, 0.6, 0.5))
    alphas = choose_alphas(histogram)
    assert histogram.otsu_threshold() == pytest.approx(0.35, abs=0.03)
    assert alphas.low == pytest.approx(1.3, abs=0.15)
    assert alphas.walk == pytest.approx(3.9, abs=0.4)
    assert alphas.high == pytest.approx(7.7, abs=0.8)


@pytest.mark.parametrize("value", [0.0, 0.02, 0.5, 1.0])
def test_alphas_of_maps_without_contrast_stay_sane(value):
    alphas = choose_alphas(CamHistogram().update(np.full((1, 9, 9), value)))
    assert 0.1 < alphas.low <= alphas.walk <= alphas.high < 150


def test_an_empty_histogram_is_an_error():
    with pytest.raises(DataError, match="empty"):
        choose_alphas(CamHistogram())


def test_confident_labels_equal_a_loop():
    rng = np.random.default_rng(0)
    low, high, classes = rng.random((3, 6, 7)), rng.random((3, 6, 7)), np.array([4, 19])
    expected = np.zeros((6, 7), int)
    for y in range(6):
        for x in range(7):
            strong, weak = low[:, y, x].argmax(), high[:, y, x].argmax()
            expected[y, x] = 0 if weak == 0 else (255 if strong == 0 else classes[strong - 1] + 1)
    found = combine_crf(low, high, classes)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 5, 20, 255}


def test_confident_labels_of_mismatched_arrays_are_refused():
    with pytest.raises(ValueError, match="K = 2"):
        combine_crf(np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), [0, 1])
