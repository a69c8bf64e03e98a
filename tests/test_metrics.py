"""Metrics against naive loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.background import threshold_of_alpha
from tfwsss.cam import predict_label
from tfwsss.errors import DataError
from tfwsss.metrics import AveragePrecision, ConfusionMatrix, ThresholdSweep, area_under_roc

seeds = st.integers(0, 2**32 - 1)


def naive_iou(label, prediction, count):
    iou = []
    for index in range(count):
        hit = union = 0
        for true, guess in zip(label.ravel(), prediction.ravel(), strict=True):
            if true == 255:
                continue
            hit += true == index and guess == index
            union += true == index or guess == index
        iou.append(hit / union if union else np.nan)
    return iou


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 5))
def test_iou_equals_a_loop(seed, count):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, count, (2, 7, 9)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255
    prediction = rng.integers(0, max(count - 1, 1), label.shape)  # the last label is never predicted
    matrix = ConfusionMatrix(count)
    for one, other in zip(label, prediction, strict=True):
        matrix.update(one, other)
    expected = naive_iou(label, prediction, count)
    np.testing.assert_allclose(matrix.iou(), expected)
    np.testing.assert_allclose(matrix.miou(), np.nanmean(expected))
    known = label != 255
    np.testing.assert_allclose(matrix.pixel_accuracy(), (label == prediction)[known].mean())
    np.testing.assert_allclose(matrix.frequency(), [(label[known] == index).mean() for index in range(count)])


def test_absent_labels_are_nan_and_left_out_of_the_mean():
    matrix = ConfusionMatrix(4).update([0, 0, 1, 255], [0, 1, 1, 3])
    np.testing.assert_array_equal(np.isnan(matrix.iou()), [False, False, True, True])
    assert matrix.miou() == pytest.approx((1 / 2 + 1 / 2) / 2)
    empty = ConfusionMatrix(3)
    assert np.isnan(empty.miou()) and np.isnan(empty.pixel_accuracy()) and np.isnan(empty.iou()).all()


def test_merging_workers_equals_one_pass():
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 3, (2, 4, 50))
    whole = ConfusionMatrix(3).update(label, prediction)
    parts = (
        ConfusionMatrix(3).update(label[:2], prediction[:2]).merge(ConfusionMatrix(3).update(label[2:], prediction[2:]))
    )
    np.testing.assert_array_equal(whole.counts, parts.counts)
    with pytest.raises(ValueError, match="4 labels"):
        whole.merge(ConfusionMatrix(4))


@pytest.mark.parametrize(
    ("label", "prediction", "message"),
    [
        ([0, 3], [0, 0], "label: expected 0..2, found 3"),
        ([0, 1], [0, -1], "prediction: expected 0..2, found -1"),
        ([0, 1], [0, 255], "prediction: expected 0..2, found 255"),
        ([0, 1], [[0, 1]], "shape"),
    ],
)
def test_values_out_of_range_are_refused(label, prediction, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(DataError, match=message):
        matrix.update(label, prediction)
    assert matrix.counts.sum() == 0


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_sweep_equals_one_confusion_matrix_per_threshold(seed):
    rng = np.random.default_rng(seed)
    # Values on a coarse raster, so that ties between maps and with the threshold occur.
    thresholds = np.array([0.0, 0.2, 0.25, 0.5, 0.9], np.float32)
    sweep, matrices = ThresholdSweep(6, thresholds), [ConfusionMatrix(6) for _ in thresholds]
    for classes in ([], [1, 3], [0, 2, 4]):
        cam = (rng.integers(0, 21, (len(classes), 8, 6)) / 20).astype(np.float32)
        label = rng.choice(np.array([0, 1, 2, 3, 4, 5, 255], np.uint8), (8, 6))
        sweep.update(label, classes, cam)
        for matrix, threshold in zip(matrices, thresholds, strict=True):
            matrix.update(label, predict_label(classes, cam, threshold=threshold))
    for one, other in zip(sweep.matrices(), matrices, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
    curve = [matrix.miou() for matrix in matrices]
    np.testing.assert_allclose(sweep.miou(), curve)
    assert sweep.best()[1] == pytest.approx(max(curve))


def test_sweep_over_alphas_equals_background_scores():
    rng = np.random.default_rng(4)
    cam = rng.random((2, 20, 20)).astype(np.float32)
    label = rng.integers(0, 3, (20, 20))
    for alpha in (1.0, 4.0, 16.0):
        expected = ConfusionMatrix(3).update(label, predict_label([0, 1], cam, alpha=alpha))
        sweep = ThresholdSweep(3, [threshold_of_alpha(alpha)]).update(label, [0, 1], cam)
        np.testing.assert_array_equal(sweep.matrices()[0].counts, expected.counts)


def test_sweep_merges_and_refuses_wrong_shapes():
    rng = np.random.default_rng(5)
    cam, label = rng.random((1, 4, 4)), rng.integers(0, 2, (4, 4))
    twice = ThresholdSweep(2, [0.3]).update(label, [0], cam).merge(ThresholdSweep(2, [0.3]).update(label, [0], cam))
    assert sum(matrix.counts.sum() for matrix in twice.matrices()) == 32
    with pytest.raises(ValueError, match="thresholds"):
        twice.merge(ThresholdSweep(2, [0.4]))
    with pytest.raises(DataError, match="cam"):
        twice.update(label, [0, 1], cam)
    with pytest.raises(DataError, match="empty"):
        ThresholdSweep(2, [0.3]).best()


def naive_average_precision(scores, tags):
    """Area under the steps of (recall, precision) over all distinct thresholds."""
    area = last_recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        recall = tags[chosen].sum() / tags.sum()
        area += (recall - last_recall) * tags[chosen].mean()
        last_recall = recall
    return area


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 30))
def test_average_precision_equals_a_loop(seed, count):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, (count, 3)) / 4.0  # with ties
    tags = (rng.random((count, 3)) < 0.4).astype(np.float64)
    tags[:, 2] = 0
    metric = AveragePrecision(3)
    for start in range(0, count, 7):
        metric.update(scores[start : start + 7], tags[start : start + 7])
    expected = [naive_average_precision(scores[:, k], tags[:, k]) if tags[:, k].any() else np.nan for k in range(3)]
    np.testing.assert_allclose(metric.per_class(), expected)
    if tags.any():
        np.testing.assert_allclose(metric.mean(), np.nanmean(expected))


def test_average_precision_without_positives_is_nan_and_bad_scores_are_refused():
    assert np.isnan(AveragePrecision(2).mean())
    with pytest.raises(DataError, match="NaN"):
        AveragePrecision(2).update([[0.1, np.nan]], [[1, 0]])
    with pytest.raises(DataError, match=r"\[B, 2\]"):
        AveragePrecision(2).update([[0.1]], [[1]])


@given(seed=seeds, count=st.integers(1, 30))
def test_area_under_roc_counts_pairs(seed, count):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 6, count) / 2.0, rng.random(count) < 0.5
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    found = area_under_roc(scores, positive)
    assert np.isnan(found) if not pairs else found == pytest.approx(np.mean(pairs))


def test_unknown_tags_are_not_ranked():
    rng = np.random.default_rng(3)
    scores, tags, known = rng.random((60, 4)), rng.random((60, 4)) < 0.4, rng.random((60, 4)) < 0.7
    known[:, 3] = ~tags[:, 3]  # the positives of the last class are all unknown
    metric = AveragePrecision(4).update(scores[:25], tags[:25], known[:25]).update(scores[25:], tags[25:], known[25:])
    expected = [naive_average_precision(scores[known[:, k], k], tags[known[:, k], k]) for k in range(3)]
    np.testing.assert_allclose(metric.per_class(), [*expected, np.nan])
    changed = np.where(known, tags, ~tags)  # what stands at unknown places does not matter
    np.testing.assert_allclose(AveragePrecision(4).update(scores, changed, known).per_class()[:3], expected)
