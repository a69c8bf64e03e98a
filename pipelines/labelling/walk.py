"""CAMs to walked scores, with AffinityNet: the work of the stage `pseudo_labels`, and of `label_scores` on evaluation photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tfwsss.config import Fidelity
from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.interpolation import enlarge
from tfwsss.pseudolabel import STRIDE, grid_size, walk_input
from tfwsss.storage.artifacts import load_cam, save_walk

from ..engine.context import Context, weights_path
from .photos import batch_size, filled
from .timing import Timing
from .work import Work

BORDER: dict[Fidelity, Literal["faithful", "full"]] = {"faithful": "faithful", "corrected": "full"}


class Photo(NamedTuple):
    """A photo and what walks on its grid.

    Attributes:
        image: [H, W, 3] uint8.
        classes: int32 [K].
        channels: float32 [A + K, h, w]: a background for each exponent, then the maps.
    """

    image: np.ndarray
    classes: np.ndarray
    channels: np.ndarray


def walk_work(
    context: Context,
    dataset: Dataset,
    cams: Path,
    walks: Path,
    alphas: tuple[float, ...],
    timing: Timing,
    label: Callable[[Sample, np.ndarray], None] = lambda sample, image: None,
) -> Work[Sample, Photo, tuple, None]:
    """<cams>/<id>.npz -> <walks>/<id>.npz, and then whatever `label` makes of that and the photo.

    Args:
        context: of the stage.
        dataset: the photos.
        cams, walks: folders.
        alphas: background exponents; the first is the one labels are made with.
        timing: gets "walk" and "writing".
        label: called when the walk's file is there.
    """
    batch = batch_size(context)

    def read(sample: Sample) -> Photo:
        image = dataset.read(sample)
        classes, cam = load_cam(cams, sample.id)
        return Photo(image, classes, walk_input(enlarge(cam, *image.shape[:2]), alphas))

    def on_device(name: str):
        return _affinities_on(name, context, batch)

    def finish(sample: Sample, computed) -> None:
        photo, affinity = computed
        with timing.measure("walk"):
            walked = _walk(context, affinity, photo.channels)
        with timing.measure("writing"):
            save_walk(walks, sample.id, photo.classes, alphas, walked[: len(alphas)], walked[len(alphas) :])
        label(sample, photo.image)

    return Work(read, finish, on_device, lambda photo: photo.image.shape, batch)


def _affinities_on(name: str, context: Context, batch: int):
    """Function [Photo of one size] -> [(Photo, affinities of its pairs as a tensor of that device)]."""
    import tensorflow as tf

    from tfwsss.affinity import pair_affinity
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config = context.config
    normalize = normalization(config.affinitynet.model.backbone)
    radius, border = config.affinitynet.radius, BORDER[config.switches.border_pairs]
    with tf.device(name):
        model = load_model(weights_path(context.work, "affinitynet"))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([2], tf.int32)], autograph=False)
    def affinities(photos, margin):
        images = normalize(tf.cast(photos, tf.float32))
        return pair_affinity(model(tf.pad(images, [[0, 0], [0, margin[0]], [0, margin[1]], [0, 0]]), training=False), radius, border)

    def compute(photos: list[Photo]) -> list[tuple]:
        height, width = photos[0].image.shape[:2]
        rows, columns = grid_size(height, width)
        margin = (rows * STRIDE - height, columns * STRIDE - width)
        with tf.device(name):
            found = affinities(filled([photo.image for photo in photos], batch), margin)
            return [(photo, found[index : index + 1]) for index, photo in enumerate(photos)]

    return compute


def _walk(context: Context, affinity, channels: np.ndarray) -> np.ndarray:
    """Channels [C, h, w] -> walked, float32 [C, h, w]."""
    from tfwsss.randomwalk import random_walk

    settings, config = context.config.pseudo_labels, context.config
    walked = random_walk(
        affinity,
        channels.transpose(1, 2, 0)[None],
        radius=config.affinitynet.radius,
        beta=settings.beta,
        steps=settings.steps,
        border=BORDER[config.switches.border_pairs],
        method=settings.method,
        tolerance=settings.tolerance,
    )
    return walked[0].numpy().transpose(2, 0, 1)
