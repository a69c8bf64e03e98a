"""Class activation maps of photos whose tags are known: the work of the stage `cams`, and of `label_scores` on evaluation photos."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.storage.artifacts import save_cam

from ..engine.context import Context, weights_path
from .photos import batch_size, filled
from .timing import Timing
from .work import Work


class Tagged(NamedTuple):
    """A photo and the weight of each class's map, [C] in 0..1: 1 for its tags, 0 for a class that gets no map."""

    sample: Sample
    tags: np.ndarray


class Scaled(NamedTuple):
    """A photo as the classifier will see it.

    Attributes:
        size: (rows, columns) of its maps.
        classes: int32 [K].
        photos: uint8 [h, w, 3], one for each scale; empty for K = 0.
    """

    size: tuple[int, int]
    classes: np.ndarray
    photos: list[np.ndarray]


def cam_work(context: Context, dataset: Dataset, folder: Path, timing: Timing) -> Work[Tagged, Scaled, np.ndarray, None]:
    """Photo and tags -> <folder>/<id>.npz, with the trained classifier."""
    from tfwsss.cam import cam_grid, scaled_photos
    from tfwsss.data.augment import pil_filter

    config, settings = context.config, context.config.cams
    filter, batch = pil_filter(config.switches.resize_filter), batch_size(context)

    def read(item: Tagged) -> Scaled:
        image = np.ascontiguousarray(dataset.read(item.sample))
        classes = np.flatnonzero(item.tags).astype(np.int32)
        return Scaled(cam_grid(image.shape[0], image.shape[1], settings.stride), classes, scaled_photos(image, settings.scales, filter) if len(classes) else [])

    def group(photo: Scaled):
        return [one.shape for one in photo.photos]

    def on_device(name: str):
        return _sums_on(name, context, batch)

    def finish(item: Tagged, total: np.ndarray) -> None:
        from tfwsss.cam import normalized_cam

        with timing.measure("writing"):
            classes = np.flatnonzero(item.tags)
            maps = normalized_cam(total) * item.tags[classes, None, None] if len(classes) else np.moveaxis(total, 2, 0)
            save_cam(folder, item.sample.id, classes, maps, settings.dtype)

    return Work(read, finish, on_device, group, batch)


def _sums_on(name: str, context: Context, batch: int):
    """Function [Scaled of one group] -> [their maps summed over scales, float32 [rows, columns, K]]."""
    import tensorflow as tf

    from tfwsss.cam import maps_of_scale
    from tfwsss.models import cam_activation, class_maps, normalization
    from tfwsss.weights import load_model

    settings, backbone = context.config.cams, context.config.classifier.model.backbone
    activation = cam_activation(backbone) if settings.activation == "auto" else settings.activation
    with tf.device(name):
        model = class_maps(load_model(weights_path(context.work, "classifier")))

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int32), tf.TensorSpec([2], tf.int32)],
        autograph=False,
    )
    def one_scale(photos, classes, size):
        return maps_of_scale(
            lambda images: model(images, training=False),
            photos,
            classes,
            size,
            flip=settings.flip,
            normalization=normalization(backbone),
            activation=activation,
        )

    def compute(photos: list[Scaled]) -> list[np.ndarray]:
        size = photos[0].size
        if not photos[0].photos:
            return [np.zeros((*size, 0), np.float32) for _ in photos]
        classes = np.unique(np.concatenate([photo.classes for photo in photos]))
        with tf.device(name):
            scales = zip(*(photo.photos for photo in photos), strict=True)
            total = tf.add_n([one_scale(filled(scale, batch), classes, size) for scale in scales]).numpy()
        return [total[index][:, :, np.searchsorted(classes, photo.classes)] for index, photo in enumerate(photos)]

    return compute
