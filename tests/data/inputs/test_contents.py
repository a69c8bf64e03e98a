"""Training batches: labels and tags that belong to their photo, the canvas, and what is refused."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import ValidationError

from tests.data.inputs import conftest as inputs_conftest
from tfwsss import config
from tfwsss.data.dataset import Sample
from tfwsss.data.label_sources import LabelFolder, MixedLabels, StrongMasks
from tfwsss.errors import DataError
from tfwsss.normalization import Normalization
from tfwsss.storage.artifacts import load_label, save_label, save_scores

IDENTITY = Normalization(False, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def label_shown_by(image):
    """Label map that an identity-normalised image of the fixture shows; canvas is 255."""
    grey = image[..., 0]
    assert (image == grey[..., None]).all()
    label = (grey - 10) / 20
    assert np.isin(label[grey != 0], np.arange(8)).all()
    return np.where(grey == 0, 255, label).astype(np.uint8)


def test_tags_belong_to_the_photo(photos, tmp_path):
    """Plain photos of one colour each; their tags say which."""
    samples = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (60, 50), (40 * index + 20, 0, 0)).save(path)
        samples.append(Sample(str(index), path, (index, 6) if index % 2 else (index,)))
    result = photos.only(samples).collect("classifier", normalization=IDENTITY, batch_size=5, color_jitter=False)
    for image, tags in zip(result["image"], result["tags"], strict=True):
        index = round((image[..., 0].max() - 20) / 40)
        expected = np.zeros(7)
        expected[[index, 6] if index % 2 else index] = 1
        np.testing.assert_array_equal(tags, expected)


def test_classifier_canvas_is_the_mean_colour(photos):
    normalization = Normalization(False, 1.0, (300.0, 300.0, 300.0), (2.0, 2.0, 2.0))  # real pixels are all negative
    images = photos.collect("classifier", normalization=normalization, resize_long=(20, 40), batch_size=7)["image"]
    assert images.max() == 0
    for photo in (images < 0).any(axis=-1):  # one rectangle of photo, the rest is canvas
        rows, columns = photo.any(axis=1).sum(), photo.any(axis=0).sum()
        assert photo.sum() == rows * columns and 20 <= max(rows, columns) <= 40


def test_classifier_photos_of_one_scale(photos, tmp_path):
    path = tmp_path / "small.png"
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(path)
    one = photos.only([Sample("small", path, (0,))])
    normalization = Normalization(False, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = one.collect("classifier", normalization=normalization, scale_range=(1.5, 1.5), color_jitter=False, batch_size=3)["image"]
    for photo in (images > 0).any(axis=-1):
        assert (photo.any(axis=1).sum(), photo.any(axis=0).sum()) == (30, 45)


def test_classifier_flips_half_of_the_photos(photos, tmp_path):
    path = tmp_path / "ramp.png"
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))).save(path)
    one = photos.only([Sample("ramp", path, (0,))])
    images = one.collect("classifier", normalization=IDENTITY, resize_long=(64, 64), color_jitter=False, batch_size=40)
    rising = [(np.diff(image[0, :, 0]) > 0).all() for image in images["image"]]
    falling = [(np.diff(image[0, :, 0]) < 0).all() for image in images["image"]]
    assert sum(rising) + sum(falling) == 40 and 8 < sum(rising) < 32


def test_color_jitter_is_a_setting(photos):
    plain, jittered = (photos.collect("segmenter", scale_range=(1, 1), color_jitter=on) for on in (False, True))
    np.testing.assert_array_equal(plain["label"], jittered["label"])
    inside = plain["label"] != 255
    changed = (plain["image"] != jittered["image"]).any(axis=-1)
    assert changed[inside].mean() > 0.5 and not changed[~inside].any()


@pytest.mark.parametrize("scale_range", [(1.0, 1.0), (0.5, 0.6), (0.6, 2.0)])
def test_segmenter_labels_move_with_the_photo(photos, scale_range):
    """Photos are resized by nearest neighbour here, so that they show exact labels at every scale."""
    sides = set()
    for epoch in range(3):
        result = photos.collect("segmenter", scale_range=scale_range, epoch=epoch, batch_size=7)
        for image, label in zip(result["image"], result["label"], strict=True):
            np.testing.assert_array_equal(label_shown_by(image), label)
            sides |= {(label != 255).any(axis=1).sum(), (label != 255).any(axis=0).sum()}
    assert min(sides) < 64  # the canvas was part of it
    assert len(sides) > 5 or scale_range == (1.0, 1.0)


# -------------------------------------------------------------------------------------------------- affinity


def cells(label):
    return label.reshape(9, 8, 9, 8).swapaxes(1, 2).reshape(81, 64)


def test_affinity_labels_move_with_the_photo(photos):
    result = photos.collect("affinity", batch_size=7)
    for image, grid in zip(result["image"], result["label"], strict=True):
        for cell, found in zip(cells(label_shown_by(image)), grid.ravel(), strict=True):
            votes = np.bincount(cell, minlength=256)
            ignored, votes = votes[255], votes[:255]
            best = np.flatnonzero(votes == votes.max())
            assert found == (255 if ignored > 32 or len(best) > 1 else best[0])
    assert {0, 7, 255} <= set(result["label"].ravel())


def test_affinity_labels_from_scores(photos):
    result = photos.collect("affinity", batch_size=7, label_source="scores")
    for image, grid in zip(result["image"], result["label"], strict=True):
        for cell, found in zip(cells(label_shown_by(image)), grid.ravel(), strict=True):
            votes = np.bincount(cell, minlength=256)[:255]
            assert found == (votes.argmax() if votes.any() else 255)
    assert {0, 7, 255} <= set(result["label"].ravel())


def test_affinity_canvas(photos):
    normalization = Normalization(False, 0.5, (3.0, 4.0, 5.0), (2.0, 2.0, 4.0))
    black, mean = (
        photos.collect("affinity", normalization=normalization, canvas=canvas, batch_size=7)
        for canvas in ("black", "mean")
    )
    np.testing.assert_array_equal(black["label"], mean["label"])
    canvas = (photos.collect("affinity", batch_size=7)["image"] == 0).all(axis=-1)
    assert 0.05 < canvas.mean() < 0.9
    assert (mean["image"][canvas] == 0).all()
    np.testing.assert_array_equal(np.unique(black["image"][canvas], axis=0), [[-1.5, -2.0, -1.25]])
    np.testing.assert_array_equal(black["image"][~canvas], mean["image"][~canvas])


def test_crops_per_image(photos):
    images = photos.collect("affinity", crops_per_image=3, batch_size=21)["image"]
    shown = Counter(photo_shown_by(photos, image) for image in images)
    assert shown == {sample.id: 3 for sample in photos.dataset.samples}
    assert len({image.tobytes() for image in images}) > 14  # crops of one photo differ


def photo_shown_by(photos, image):
    """Id of the photo of which an unscaled crop of side 72 is a part."""
    label = label_shown_by(image)
    rows, columns = np.flatnonzero((label != 255).any(axis=1)), np.flatnonzero((label != 255).any(axis=0))
    part = label[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for sample in photos.dataset.samples:
        whole = load_label(photos.labels, sample.id)
        for turned in (whole, np.fliplr(whole)):
            if part.shape == tuple(np.minimum(whole.shape, 72)):
                windows = np.lib.stride_tricks.sliding_window_view(turned, part.shape)
                if (windows == part).all(axis=(2, 3)).any():
                    return sample.id
    return None


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("pipeline", ["classifier", "affinity", "segmenter"])
def test_no_photos(photos, pipeline):
    with pytest.raises(DataError, match="no photos"):
        photos.only(()).collect(pipeline)


@pytest.mark.parametrize(
    ("pipeline", "settings", "suffix"),
    [("affinity", {}, "png"), ("affinity", {"label_source": "scores"}, "npz"), ("segmenter", {}, "png")],
)
class TestLabels:
    def test_missing_one_is_named(self, photos, tmp_path, pipeline, settings, suffix):
        nowhere = dataclasses.replace(photos, labels=tmp_path)
        with pytest.raises(DataError, match=rf"7 of 7 photos .*set 0.0\.{suffix}"):
            getattr(nowhere, pipeline)(**settings)

    def test_one_of_another_size_is_named(self, photos, tmp_path, pipeline, settings, suffix):
        for sample in photos.dataset.samples:
            save_label(tmp_path, sample.id, np.zeros((90, 121), np.uint8))
            save_scores(tmp_path, sample.id, [0], np.zeros((2, 90, 121)), np.zeros((2, 90, 121)))
        message = rf"DataError: .*\.{suffix}: expected the photo's size .* found \(90, 121\)"
        with pytest.raises(tf.errors.UnknownError, match=message):
            dataclasses.replace(photos, labels=tmp_path).collect(pipeline, **settings)


def test_a_photo_that_disappears_is_named(photos, tmp_path):
    gone = photos.only([Sample("gone", tmp_path / "gone.png", (0,))])
    with pytest.raises(tf.errors.UnknownError, match=r"ImageError: .*gone\.png"):
        gone.collect("classifier")


@pytest.mark.parametrize(("crop", "radius"), [(100, 5), (64, 5), (72, 6)])
def test_affinity_crop_must_fit_the_grid(crop, radius):
    with pytest.raises(ValidationError, match=f"expected a multiple of 8 and at least .* found {crop}"):
        config.AffinityNet(crop=crop, radius=radius)


def test_unknown_tags_belong_to_the_photo(photos, tmp_path):
    samples = []
    for index in range(4):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (60, 50), (40 * index + 20, 0, 0)).save(path)
        samples.append(Sample(str(index), path, (index,), unknown=(index + 1, 6)))
    result = photos.only(samples).collect("classifier", normalization=IDENTITY, batch_size=4, color_jitter=False)
    for image, tags, known in zip(result["image"], result["tags"], result["known"], strict=True):
        index = round((image[..., 0].max() - 20) / 40)
        assert np.flatnonzero(tags).tolist() == [index] and np.flatnonzero(known == 0).tolist() == [index + 1, 6]


@pytest.mark.parametrize(("pipeline", "source"), [("segmenter", "labels"), ("affinity", "labels"), ("affinity", "scores")])
def test_masks_among_made_labels_and_their_weight(photos, tmp_path, monkeypatch, pipeline, source):
    """Photos 0 and 3 have a mask of class 5 everywhere; the others show their made label."""
    strong = frozenset(sample.id for sample in (photos.dataset.samples[0], photos.dataset.samples[3]))
    masks = dataclasses.replace(photos.dataset, strong_masks=lambda sample: np.full(photos.dataset.read(sample).shape[:2], 6, np.uint8))
    monkeypatch.setattr(inputs_conftest, "LabelFolder", lambda folder: MixedLabels(StrongMasks(masks, strong), LabelFolder(folder)))
    options = {"label_source": source, "crop": 80} if pipeline == "affinity" else {}
    result = photos.collect(pipeline, batch_size=7, strong_weight=2.5, **options)
    for label, weight in zip(result["label"], result["weight"], strict=True):
        shown = set(np.unique(label)) - {255}
        assert (shown == {6}) == (weight == 2.5) and weight in (1.0, 2.5)
    assert sorted(result["weight"]) == [1.0] * 5 + [2.5] * 2
