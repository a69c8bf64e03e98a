"""Training batches: what is in them, in which order, and what they depend on."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import ValidationError

from tfwsss import config
from tfwsss.artifacts import save_label, save_scores
from tfwsss.data import inputs
from tfwsss.data.augment import pil_filter
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.errors import DataError
from tfwsss.normalization import TORCH, Normalization

IDENTITY = Normalization(False, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZES = [(90, 120), (100, 70), (40, 150), (30, 41), (130, 130), (72, 96), (128, 50)]
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
BILINEAR, NEAREST = pil_filter("corrected"), Image.Resampling.NEAREST


def shade(label):
    """Grey level that tells a label; never 0, so that a zero pixel is canvas."""
    return np.uint8(10) + np.uint8(20) * label


def unshade(image):
    """Label map that an image made by `shade` (all channels, float) shows; canvas is 255."""
    grey = image[..., 0]
    assert (image == grey[..., None]).all()
    label = (grey - 10) / 20
    assert np.isin(label[grey != 0], np.arange(8)).all()
    return np.where(grey == 0, 255, label).astype(np.uint8)


@dataclass
class Photos:
    dataset: Dataset
    labels: Path
    label_maps: dict


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven photos of different sizes, photo i tagged with class i, each showing its own label map in grey."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    samples, maps = [], {}
    for index, (height, width) in enumerate(SIZES):
        coarse = rng.integers(0, 8, (height // 6 + 1, width // 5 + 1), dtype=np.uint8)
        label = np.kron(coarse, np.ones((6, 5), np.uint8))[:height, :width]
        name = f"set {index % 2}/{index}"
        path = root / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.repeat(shade(label)[..., None], 3, axis=-1)).save(path)
        save_label(root / "labels", name, label)
        one_hot = np.stack([label == value for value in range(8)])
        save_scores(root / "labels", name, np.arange(7), one_hot, one_hot)
        samples.append(Sample(name, path, (index,)))
        maps[name] = label
    return Photos(Dataset(CLASSES, tuple(samples)), root / "labels", maps)


def classifier_settings(**changes):
    return config.Classifier(**{"crop": 64, "batch_size": 2, "resize_long": (48, 96)} | changes)


def affinity_settings(**changes):
    return config.AffinityNet(**{"crop": 72, "batch_size": 3, "color_jitter": False} | changes)


def segmenter_settings(**changes):
    return config.Segmenter(**{"crop": 64, "batch_size": 2, "color_jitter": False} | changes)


def classifier(photos, normalization=TORCH, seed=7, epoch=0, **changes):
    return inputs.classifier_batches(
        photos.dataset, classifier_settings(**changes), normalization, filter=BILINEAR, seed=seed, epoch=epoch
    )


def affinity(photos, normalization=IDENTITY, canvas="mean", seed=7, epoch=0, **changes):
    settings = affinity_settings(**changes)
    return inputs.affinity_batches(
        photos.dataset, photos.labels, settings, normalization, canvas=canvas, seed=seed, epoch=epoch
    )


def segmenter(photos, normalization=IDENTITY, filter=NEAREST, seed=7, epoch=0, **changes):
    settings = segmenter_settings(**changes)
    return inputs.segmenter_batches(
        photos.dataset, photos.labels, settings, normalization, filter=filter, seed=seed, epoch=epoch
    )


PIPELINES = [classifier, affinity, segmenter]


def collect(batches):
    """All samples of an epoch, one array per name."""
    parts = list(batches.as_numpy_iterator())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


# ------------------------------------------------------------------------------------------- shape and number


@pytest.mark.parametrize(
    ("pipeline", "second", "shape", "dtype"),
    [
        (classifier, "tags", (2, 7), tf.float32),
        (affinity, "label", (3, 9, 9), tf.uint8),
        (segmenter, "label", (2, 64, 64), tf.uint8),
    ],
)
def test_static_shapes(photos, pipeline, second, shape, dtype):
    side = 72 if pipeline is affinity else 64
    batches = pipeline(photos)
    assert batches.element_spec == {
        "image": tf.TensorSpec((shape[0], side, side, 3), tf.float32),
        second: tf.TensorSpec(shape, dtype),
    }
    batch = next(iter(batches))
    assert batch["image"].shape == (shape[0], side, side, 3) and batch[second].shape == shape


@pytest.mark.parametrize(("batch_size", "count"), [(1, 7), (2, 3), (3, 2), (7, 1), (8, 1), (20, 1)])
def test_number_of_batches_and_fair_use_of_photos(photos, batch_size, count):
    batches = classifier(photos, batch_size=batch_size)
    assert batches.cardinality() == count
    used = collect(batches)["tags"].sum(axis=0)
    assert used.sum() == count * batch_size
    assert used.max() - used.min() <= 1


def test_crops_per_image(photos):
    batches = affinity(photos, crops_per_image=3, batch_size=21)
    assert batches.cardinality() == 1
    images = collect(batches)["image"]
    assert len({image.tobytes() for image in images}) > 14  # crops of one photo differ
    shown = [match_photo(photos, image) for image in images]
    assert sorted(shown) == sorted(list(photos.label_maps) * 3)


def match_photo(photos, image):
    """Id of the photo of which an unscaled identity crop is a part."""
    label = unshade(image)
    rows, columns = np.flatnonzero((label != 255).any(axis=1)), np.flatnonzero((label != 255).any(axis=0))
    part = label[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    found = []
    for name, whole in photos.label_maps.items():
        for turned in (whole, np.fliplr(whole)):
            if part.shape == tuple(np.minimum(whole.shape, 72)):
                windows = np.lib.stride_tricks.sliding_window_view(turned, part.shape)
                if (windows == part).all(axis=(2, 3)).any():
                    found.append(name)
    assert len(found) == 1
    return found[0]


def test_no_photos(photos):
    empty = Photos(Dataset(CLASSES, ()), photos.labels, {})
    for pipeline in PIPELINES:
        with pytest.raises(DataError, match="no photos"):
            pipeline(empty)


# ---------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_equal_seed_and_epoch_give_equal_batches(photos, pipeline):
    settings = {"color_jitter": True}
    first = collect(pipeline(photos, epoch=2, **settings))
    collect(pipeline(photos, epoch=0, **settings))
    assert_same(first, collect(pipeline(photos, epoch=2, **settings)))
    for changed in ({"epoch": 3}, {"epoch": 2, "seed": 8}):
        other = collect(pipeline(photos, **changed, **settings))
        assert all((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_threads_do_not_matter(photos, pipeline):
    results = []
    for threads in (1, 5):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        results.append(collect(pipeline(photos, color_jitter=True).with_options(options)))
    assert_same(*results)


def test_a_sample_depends_on_its_position_not_on_the_batch(photos):
    singles, triples = (collect(classifier(photos, batch_size=size)) for size in (1, 3))
    assert_same({name: array[:6] for name, array in singles.items()}, triples)


def test_a_repeated_photo_is_drawn_anew(photos):
    result = collect(classifier(photos, batch_size=14))
    for tag in range(7):
        first, second = result["image"][result["tags"][:, tag] == 1]
        assert (first != second).any()


class Meeting:
    """A data set whose `read` waits until two threads are inside: sequential reading breaks the barrier."""

    def __init__(self, dataset):
        self.dataset, self.samples, self.num_classes = dataset, dataset.samples, dataset.num_classes
        self.tag_matrix = dataset.tag_matrix
        self.barrier, self.arrivals, self.lock = threading.Barrier(2, timeout=30), 0, threading.Lock()

    def read(self, sample):
        with self.lock:
            self.arrivals += 1
            waits = self.arrivals <= 2
        if waits:
            self.barrier.wait()
        return self.dataset.read(sample)


def main_of_the_other_process(root):
    """Run by `test_another_process_with_deterministic_ops`."""
    tf.config.experimental.enable_op_determinism()
    samples = [
        Sample(f"set {i % 2}/{i}", Path(root) / f"set {i % 2}/{i}.png", (i,)) for i in range(len(SIZES))
    ]
    photos = Photos(Meeting(Dataset(CLASSES, tuple(samples))), Path(root) / "labels", {})
    result = collect(classifier(photos, epoch=5))
    np.savez(Path(root) / "other.npz", **result)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="tf.data reads in sequence on one core")
def test_another_process_with_deterministic_ops(photos):
    """Deterministic ops make tf.data run anything stateful in sequence; reading must stay parallel, and equal."""
    root = photos.labels.parent
    command = f"import runpy; runpy.run_path({__file__!r})['main_of_the_other_process']({str(root)!r})"
    environment = os.environ | {"PYTHONHASHSEED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    folder = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", command], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(collect(classifier(photos, epoch=5)), dict(np.load(root / "other.npz")))


def test_order_and_numbers_are_pinned():
    """Finished stages and interrupted runs rely on them: a change here changes every training."""
    assert inputs._permutation(8, seed=1, epoch=2, turn=0).tolist() == [0, 4, 2, 7, 3, 6, 1, 5]
    assert inputs._digest(1, 2, 3) == 254479709786452420103882943538683498881


# -------------------------------------------------------------------------------------------------- contents


def test_tags_belong_to_the_photo(tmp_path):
    """Plain photos of one colour each; their tags say which."""
    samples = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (60, 50), (40 * index + 20, 0, 0)).save(path)
        samples.append(Sample(str(index), path, (index, 6) if index % 2 else (index,)))
    photos = Photos(Dataset(CLASSES, tuple(samples)), tmp_path, {})
    result = collect(classifier(photos, IDENTITY, batch_size=5, color_jitter=False))
    for image, tags in zip(result["image"], result["tags"], strict=True):
        index = round((image[..., 0].max() - 20) / 40)
        expected = np.zeros(7)
        expected[[index, 6] if index % 2 else index] = 1
        np.testing.assert_array_equal(tags, expected)


def test_classifier_canvas_is_the_mean_colour(photos):
    normalization = Normalization(False, 1.0, (300.0, 300.0, 300.0), (2.0, 2.0, 2.0))  # real pixels are all negative
    images = collect(classifier(photos, normalization, resize_long=(20, 40), batch_size=7))["image"]
    assert images.max() == 0
    outside = (images == 0).all(axis=-1)
    for mask in outside:  # one rectangle of photo, the rest is canvas
        rows, columns = (~mask).any(axis=1).sum(), (~mask).any(axis=0).sum()
        assert (~mask).sum() == rows * columns and 20 <= max(rows, columns) <= 40


def test_color_jitter_is_a_setting(photos):
    plain, jittered = (
        collect(segmenter(photos, scale_range=(1, 1), color_jitter=switch)) for switch in (False, True)
    )
    np.testing.assert_array_equal(plain["label"], jittered["label"])
    inside = plain["label"] != 255
    changed = (plain["image"] != jittered["image"]).any(axis=-1)
    assert changed[inside].mean() > 0.5 and not changed[~inside].any()


@pytest.mark.parametrize("scale_range", [(1.0, 1.0), (0.5, 0.6), (0.6, 2.0)])
def test_segmenter_labels_move_with_the_photo(photos, scale_range):
    shapes = set()
    for epoch in range(3):
        result = collect(segmenter(photos, scale_range=scale_range, epoch=epoch, batch_size=7))
        for image, label in zip(result["image"], result["label"], strict=True):
            np.testing.assert_array_equal(unshade(image), label)
            shapes.add(((label != 255).any(axis=1).sum(), (label != 255).any(axis=0).sum()))
    assert any(min(shape) < 64 for shape in shapes)


def cells(label):
    return label.reshape(9, 8, 9, 8).swapaxes(1, 2).reshape(9, 9, 64)


def test_affinity_labels_move_with_the_photo(photos):
    result = collect(affinity(photos, batch_size=7))
    for image, grid in zip(result["image"], result["label"], strict=True):
        for cell, found in zip(cells(unshade(image)).reshape(-1, 64), grid.ravel(), strict=True):
            votes = np.bincount(cell, minlength=256)
            ignored, votes = votes[255], votes[:255]
            best = np.flatnonzero(votes == votes.max())
            assert found == (255 if ignored > 32 or len(best) > 1 else best[0])
    assert {0, 7, 255} <= set(result["label"].ravel())


def test_affinity_labels_from_scores(photos):
    result = collect(affinity(photos, batch_size=7, label_source="scores"))
    for image, grid in zip(result["image"], result["label"], strict=True):
        for cell, found in zip(cells(unshade(image)).reshape(-1, 64), grid.ravel(), strict=True):
            votes = np.bincount(cell, minlength=256)[:255]
            assert found == (votes.argmax() if votes.any() else 255)
    assert {0, 7, 255} <= set(result["label"].ravel())


def test_affinity_canvas(photos):
    normalization = Normalization(False, 0.5, (3.0, 4.0, 5.0), (2.0, 2.0, 4.0))
    black = collect(affinity(photos, normalization, "black", batch_size=7))
    mean = collect(affinity(photos, normalization, "mean", batch_size=7))
    np.testing.assert_array_equal(black["label"], mean["label"])
    canvas = (collect(affinity(photos, batch_size=7))["image"] == 0).all(axis=-1)
    assert 0.05 < canvas.mean() < 0.9
    assert (mean["image"][canvas] == 0).all()
    np.testing.assert_array_equal(np.unique(black["image"][canvas], axis=0), [[-1.5, -2.0, -1.25]])
    np.testing.assert_array_equal(black["image"][~canvas], mean["image"][~canvas])


# --------------------------------------------------------------------------------------------------- refusals


def test_missing_label_is_named(photos, tmp_path):
    for pipeline, suffix in ((affinity, "png"), (segmenter, "png")):
        elsewhere = Photos(photos.dataset, tmp_path, {})
        with pytest.raises(DataError, match=rf"7 of 7 photos .*set 0.0\.{suffix}"):
            pipeline(elsewhere)
    with pytest.raises(DataError, match=r"set 0.0\.npz"):
        affinity(elsewhere, label_source="scores")


def test_label_of_another_size_is_named(photos, tmp_path):
    for sample in photos.dataset.samples:
        save_label(tmp_path, sample.id, np.zeros((90, 121), np.uint8))
        save_scores(tmp_path, sample.id, [0], np.zeros((2, 90, 121)), np.zeros((2, 90, 121)))
    wrong = Photos(photos.dataset, tmp_path, {})
    for batches in (affinity(wrong), segmenter(wrong), affinity(wrong, label_source="scores")):
        with pytest.raises(tf.errors.UnknownError, match=r"DataError: .*expected the photo's size .* found \(90, 121\)"):
            collect(batches)


def test_a_photo_that_disappears_is_named(photos, tmp_path):
    gone = Sample("gone", tmp_path / "gone.png", (0,))
    batches = classifier(Photos(Dataset(CLASSES, (gone,)), tmp_path, {}))
    with pytest.raises(tf.errors.UnknownError, match=r"ImageError: .*gone\.png"):
        collect(batches)


@pytest.mark.parametrize(("crop", "radius"), [(100, 5), (64, 5), (72, 6)])
def test_affinity_crop_must_fit_the_grid(crop, radius):
    with pytest.raises(ValidationError, match=f"expected a multiple of 8 and at least .* found {crop}"):
        config.AffinityNet(crop=crop, radius=radius)
