"""Optional augmentations inside the pipelines, and the parts of a batch that several processes read."""

import numpy as np
import pytest

from tfwsss.data.label_grid import majority_label

PIPELINES = ["classifier", "affinity", "segmenter"]
ALL = {"rotate": 40, "shear": 0.3, "sharpness": 0.9, "cutout": 0.4}


def even(label):
    """[B, h, w] bool: the label's eight neighbours have it too, so that interpolation gives its colour."""
    padded = np.pad(label, ((0, 0), (1, 1), (1, 1)), constant_values=254)
    height, width = label.shape[1:]
    return np.all([padded[:, y : y + height, x : x + width] == label for y in range(3) for x in range(3)], axis=0)


@pytest.mark.parametrize("changes", [{"rotate": 40}, {"shear": 0.3}, {"rotate": 180, "shear": 0.3}])
def test_labels_move_with_the_photo(photos, changes):
    found = photos.collect("segmenter", augmentation=changes, scale_range=(2.0, 2.0))
    plain = photos.collect("segmenter", scale_range=(2.0, 2.0))
    label, grey = found["label"], found["image"][..., 0]
    sure = even(label) & (label != 255)
    assert sure.mean() > 0.2 and (label != plain["label"]).mean() > 0.15
    np.testing.assert_allclose(grey[sure], 10 + 20.0 * label[sure], atol=0.05)
    assert np.all(grey[even(label) & (label == 255)] == 0)


@pytest.mark.parametrize("source", ["labels", "scores"])
def test_affinity_labels_move_with_the_photo(photos, source):
    found = photos.collect("affinity", augmentation={"rotate": 180}, label_source=source, epoch=1)
    plain = photos.collect("affinity", label_source=source, epoch=1)
    shown = np.round((found["image"][..., 0] - 10) / 20).astype(np.uint8)  # the photo's own label, but for seams
    shown = np.stack([majority_label(label) for label in shown])
    sure = found["label"] != 255
    assert sure.mean() > 0.1
    assert (shown == found["label"])[sure].mean() > 0.7
    assert (shown == plain["label"])[sure].mean() < 0.5


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_cutout_changes_a_square_and_nothing_else(photos, pipeline):
    plain, found = photos.collect(pipeline), photos.collect(pipeline, augmentation={"cutout": 0.25})
    side = found["image"].shape[1] // 4 // 2 * 2
    for before, after in zip(plain["image"], found["image"], strict=True):
        rows, columns = (np.flatnonzero((before != after).any(axis=(axis, 2))) for axis in (1, 0))
        if len(rows):
            assert np.ptp(rows) < side and np.ptp(columns) < side
            assert np.all(after[(before != after).any(axis=-1)] == 0)
    assert (plain["image"] != found["image"]).mean() > 0.02
    for name in set(plain) - {"image"}:
        np.testing.assert_array_equal(plain[name], found[name])


def test_sharpness_keeps_the_mean(photos):
    plain, found = photos.collect("segmenter"), photos.collect("segmenter", augmentation={"sharpness": 1.0})
    assert np.abs(plain["image"] - found["image"]).mean() > 0.5
    assert abs(plain["image"].mean() - found["image"].mean()) < 0.5
    np.testing.assert_array_equal(plain["label"], found["label"])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_changes_do_not_depend_on_threads(photos, pipeline):
    """With one thread, an operation that waited for a second one would wait for ever."""
    one, many = (photos.collect(pipeline, threads=threads, augmentation=ALL, color_jitter=True) for threads in (1, 8))
    for name, value in one.items():
        np.testing.assert_array_equal(many[name], value)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_parts_make_up_the_batch(photos, pipeline):
    whole = list(getattr(photos, pipeline)(batch_size=3).as_numpy_iterator())
    parts = [list(getattr(photos, pipeline)(batch_size=3, part=part).as_numpy_iterator()) for part in (slice(0, 2), slice(2, 3))]
    assert len(whole) == len(parts[0]) == len(parts[1]) == 2
    for batch, *shares in zip(whole, *parts, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), value)
