"""Training batches: how many, which photos in which order, and what they depend on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfwsss.data import inputs
from tfwsss.processes import usable_cores

PIPELINES = ["classifier", "affinity", "segmenter"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


# ------------------------------------------------------------------------------------------- shape and number


@pytest.mark.parametrize(
    ("pipeline", "side", "second", "shape", "dtype"),
    [
        ("classifier", 64, "tags", (2, 7), tf.float32),
        ("affinity", 72, "label", (3, 9, 9), tf.uint8),
        ("segmenter", 64, "label", (2, 64, 64), tf.uint8),
    ],
)
def test_static_shapes(photos, pipeline, side, second, shape, dtype):
    batches = getattr(photos, pipeline)()
    assert batches.element_spec == {
        "image": tf.TensorSpec((shape[0], side, side, 3), tf.float32),
        second: tf.TensorSpec(shape, dtype),
        **({"known": tf.TensorSpec(shape, dtype)} if second == "tags" else {"weight": tf.TensorSpec(shape[:1], tf.float32)}),
    }
    batch = next(iter(batches))
    assert batch["image"].shape == (shape[0], side, side, 3) and batch[second].shape == shape


@pytest.mark.parametrize(("batch_size", "count"), [(1, 7), (2, 3), (3, 2), (7, 1), (8, 1), (20, 1)])
def test_number_of_batches_and_fair_use_of_photos(photos, batch_size, count):
    assert photos.classifier(batch_size=batch_size).cardinality() == count
    used = photos.collect("classifier", batch_size=batch_size)["tags"].sum(axis=0)
    assert used.sum() == count * batch_size
    assert used.max() - used.min() <= 1


def test_static_number_of_crops_per_image(photos):
    assert photos.affinity(crops_per_image=3, batch_size=4).cardinality() == 5  # 21 crops


# ---------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_equal_seed_and_epoch_give_equal_batches(photos, pipeline):
    first = photos.collect(pipeline, epoch=2, color_jitter=True)
    photos.collect(pipeline, epoch=0, color_jitter=True)
    assert_same(first, photos.collect(pipeline, epoch=2, color_jitter=True))
    for changed in ({"epoch": 3}, {"epoch": 2, "seed": 8}):
        other = photos.collect(pipeline, color_jitter=True, **changed)
        assert all((first[name] != other[name]).any() for name in first if name not in ("known", "weight"))  # which are all 1 here


def test_an_epoch_draws_new_crops_too(photos):
    """With one photo the order cannot change, so what differs is the augmentation."""
    one = photos.only(photos.dataset.samples[:1])
    images = {one.collect("segmenter", epoch=epoch, batch_size=1)["image"].tobytes() for epoch in range(4)}
    assert len(images) == 4


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_threads_do_not_matter(photos, pipeline):
    one, five = (photos.collect(pipeline, threads=threads, color_jitter=True) for threads in (1, 5))
    assert_same(one, five)


def test_a_sample_depends_on_its_position_not_on_the_batch(photos):
    singles, triples = (photos.collect("classifier", batch_size=size) for size in (1, 3))
    assert_same({name: array[:6] for name, array in singles.items()}, triples)


def test_a_repeated_photo_is_drawn_anew(photos):
    result = photos.collect("classifier", batch_size=14)
    for tag in range(7):
        first, second = result["image"][result["tags"][:, tag] == 1]
        assert (first != second).any()


OTHER_PROCESS = """
import dataclasses, runpy, sys, threading
import numpy as np
import tensorflow as tf

conftest, root = sys.argv[1:]
tf.config.experimental.enable_op_determinism()
photos = runpy.run_path(conftest)["Photos"].in_folder(root)


class Meeting:
    # `picture` waits until two threads are inside: reading in sequence breaks the barrier.
    samples, num_classes = photos.dataset.samples, photos.dataset.num_classes
    tag_matrix, known_matrix, orientation = photos.dataset.tag_matrix, photos.dataset.known_matrix, photos.dataset.orientation
    barrier, arrivals, lock = threading.Barrier(2, timeout=30), 0, threading.Lock()

    def picture(self, sample):
        with self.lock:
            self.arrivals += 1
            waits = self.arrivals <= 2
        if waits:
            self.barrier.wait()
        return photos.dataset.picture(sample)


result = dataclasses.replace(photos, dataset=Meeting()).collect("classifier", epoch=5)
np.savez(root + "/other.npz", **result)
"""


@pytest.mark.skipif(usable_cores() < 2, reason="tf.data reads in sequence on one core")
def test_another_process_with_deterministic_ops(photos):
    """Deterministic ops make tf.data run anything stateful in sequence; reading must stay parallel, and equal."""
    root, conftest = photos.labels.parent, Path(__file__).with_name("conftest.py")
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(conftest), str(root)],
        env=os.environ | {"PYTHONHASHSEED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(photos.collect("classifier", epoch=5), dict(np.load(root / "other.npz")))


def test_order_and_numbers_are_pinned():
    """Interrupted runs rely on them, also across versions: a change here changes every training."""
    assert inputs._permutation(8, seed=1, epoch=2, turn=0).tolist() == [0, 4, 2, 7, 3, 6, 1, 5]
    assert inputs._digest(1, 2, 3) == 254479709786452420103882943538683498881
