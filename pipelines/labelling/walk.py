"""CAMs to walked scores, with AffinityNet: the work of the stage `pseudo_labels`, and of `label_scores` on evaluation photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tfwsss.config import Fidelity
from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.pseudolabel import STRIDE, exponents_won, walk_input
from tfwsss.storage.artifacts import artifact_path, keep_label, save_walk

from ..engine.context import Context, weights_path
from ..executors.timing import Timing
from ..executors.work import Work
from .networks import is_processor, network_on
from .photos import batch_size, filled
from .saved_cams import SavedCams

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
    """<cams>/<id>.npz -> <walks>/<id>.npz, with several exponents also .png, and then whatever `label` makes of that and the photo.

    Args:
        context: of the stage.
        dataset: the photos.
        cams, walks: folders.
        alphas: background exponents; the first is the one labels are made with.
        timing: gets "affinity", "walk" and "writing".
        label: called when the walk's file is there.
    """
    batch, saved = batch_size(context), SavedCams(context.work)

    def read(sample: Sample) -> Photo:
        image = dataset.read(sample)
        classes, cam = saved.load(cams, sample.id)
        return Photo(image, classes, walk_input(cam, alphas))

    def on_device(name: str):
        return _affinities_on(name, context, batch)

    def finish(sample: Sample, computed) -> None:
        photo, affinity = computed
        with timing.measure("affinity"):
            if isinstance(affinity, np.ndarray):
                affinity = _affinity(context, affinity)
        with timing.measure("walk"):
            walked = _walk(context, affinity, photo.channels)
        with timing.measure("writing"):
            backgrounds, foreground = walked[: len(alphas)], walked[len(alphas) :]
            if len(alphas) > 1:
                keep_label(walks, sample.id, exponents_won(backgrounds, foreground, *photo.image.shape[:2]))
            if not artifact_path(walks, sample.id, ".npz").is_file():  # left by a process that was killed before it made the label
                save_walk(walks, sample.id, photo.classes, np.concatenate([backgrounds[:1], foreground]))
        label(sample, photo.image)

    return Work(read, finish, on_device, lambda photo: photo.image.shape, batch)


def _affinities_on(name: str, context: Context, batch: int):
    """Function [Photo of one size] -> [(Photo, what its affinities are made of)].

    On a GPU that is the affinities of its pairs, as a tensor; on a processor the features of AffinityNet, an array [h, w, F]: `finish`
    goes on with them in a thread that leaves the network the others.
    """
    import tensorflow as tf

    from tfwsss.affinity import pair_affinity
    from tfwsss.export.inference import normalized
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config, processor = context.config, is_processor(name)
    normalize = normalization(config.affinitynet.model.backbone)
    radius, border = config.affinitynet.radius, BORDER[config.switches.border_pairs]
    with tf.device(name):
        model = load_model(weights_path(context.work, "affinitynet"))

    def function(photos):
        images = normalized(tf.cast(photos, tf.float32), normalize)
        missing = (STRIDE - tf.shape(images)[1:3] % STRIDE) % STRIDE  # zeros after normalising, as in the reference
        features = model(tf.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]), training=False)
        return {"found": features if processor else pair_affinity(features, radius, border)}

    network = network_on(name, config.runtime, function)

    def compute(photos: list[Photo]) -> list[tuple]:
        found = network(filled([photo.image for photo in photos], batch))["found"]
        with tf.device(name):
            return [(photo, np.asarray(found[index]) if processor else found[index : index + 1]) for index, photo in enumerate(photos)]

    return compute


def _affinity(context: Context, features: np.ndarray) -> np.ndarray:
    """Features [h, w, F] -> affinities of a photo, [1, P, ...] as `tfwsss.affinity.pair_affinity` gives them."""
    from tfwsss.stencil import pair_affinity

    config = context.config
    return pair_affinity(features, config.affinitynet.radius, BORDER[config.switches.border_pairs])[None]


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
