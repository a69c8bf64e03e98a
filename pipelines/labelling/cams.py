"""Class activation maps of photos whose tags are known: the work of the stage `cams`, and of `label_scores` on evaluation photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfwsss.config import Config
from tfwsss.data import Dataset, Split
from tfwsss.data.dataset import Sample
from tfwsss.data.mirrors import Mirrors, mirrors
from tfwsss.storage.artifacts import save_cam

from ..engine.context import Context, weights_path
from ..executors.timing import Timing
from ..executors.work import Work
from .networks import network_on
from .photos import batch_size, filled


class Tagged(NamedTuple):
    """A photo and the weight of each class's map, [C] in 0..1: 1 for its tags, 0 for a class that gets no map."""

    sample: Sample
    tags: np.ndarray

    @property
    def id(self) -> str:
        return self.sample.id

    @property
    def image(self) -> Path:
        return self.sample.image


class Scaled(NamedTuple):
    """A photo as the classifier will see it.

    Attributes:
        size: (height, width) of the photo.
        classes: int32 [K].
        photos: uint8 [h, w, 3], one for each scale; empty for K = 0.
    """

    size: tuple[int, int]
    classes: np.ndarray
    photos: list[np.ndarray]


class Mapped(NamedTuple):
    """What the classifier sees in a photo.

    Attributes:
        size, classes: of `Scaled`.
        maps: float32 [K, h, w] for each scale, as the network gives them, mirror images added.
    """

    size: tuple[int, int]
    classes: np.ndarray
    maps: list[np.ndarray]


def cams_of_split(context: Context, timing: Timing, split: Split, folder: str) -> Work[Tagged, Scaled, Mapped, None]:
    """`cam_work` for the photos of a split and a folder below the work directory."""
    dataset = context.dataset(split)
    assert dataset is not None  # whoever asks has found photos in it
    return cam_work(context, dataset, context.work / folder, timing)


def cam_work(context: Context, dataset: Dataset, folder: Path, timing: Timing) -> Work[Tagged, Scaled, Mapped, None]:
    """Photo and tags -> <folder>/<id>.npz, with the trained classifier."""
    from tfwsss.cam import normalized_maps, scaled_photos
    from tfwsss.data.augment import pil_filter

    config, settings = context.config, context.config.cams
    filter, batch = pil_filter(config.switches.resize_filter), batch_size(context)

    def read(item: Tagged) -> Scaled:
        image = np.ascontiguousarray(dataset.read(item.sample))
        classes = np.flatnonzero(item.tags).astype(np.int32)
        return Scaled(image.shape[:2], classes, scaled_photos(image, settings.scales, filter, long_side=settings.long_side) if len(classes) else [])

    def group(photo: Scaled):
        return [one.shape for one in photo.photos]

    def on_device(name: str):
        return (_layer_cams_on if settings.method == "layer_cam" else _class_maps_on)(name, context, batch)

    def finish(item: Tagged, found: Mapped) -> None:
        weights = item.tags[found.classes, np.newaxis, np.newaxis]
        maps = [one * weights for one in normalized_maps(found.maps, *found.size)] if found.maps else []
        with timing.measure("writing"):
            save_cam(folder, item.sample.id, found.classes, maps, found.size, settings.dtype)

    return Work(read, finish, on_device, group, batch)


def cam_mirrors(config: Config) -> Mirrors:
    """The mirror images that the classifier sees of a photo, for its maps and its scores."""
    return mirrors(config.cams.flip, config.data.orientation)


def _class_maps_on(name: str, context: Context, batch: int):
    """Function [Scaled of one group] -> [Mapped], with the classifier's class maps."""
    import tensorflow as tf

    from tfwsss.cam import maps_of_scale, rectified
    from tfwsss.export.inference import normalized
    from tfwsss.models import class_maps

    images = cam_mirrors(context.config)
    classifier, normalize, activation = _classifier_on(name, context)
    with tf.device(name):
        model = class_maps(classifier)

    def function(photos):
        return {"maps": rectified(model(normalized(tf.cast(photos, tf.float32), normalize), training=False), activation)}

    network = network_on(name, context.config.runtime, function)

    def compute(photos: list[Scaled]) -> list[Mapped]:
        scales = zip(*(photo.photos for photo in photos), strict=True)
        found = [maps_of_scale(lambda images: network(images)["maps"], filled(scale, batch), images=images).transpose(0, 3, 1, 2) for scale in scales]
        return [Mapped(photo.size, photo.classes, [maps[index, photo.classes] for maps in found]) for index, photo in enumerate(photos)]

    return compute


def _layer_cams_on(name: str, context: Context, batch: int):
    """Function [Scaled of one group] -> [Mapped], with what several depths agree on; in TensorFlow, whose gradients it takes."""
    import tensorflow as tf

    from tfwsss.cam import maps_of_scale, rectified
    from tfwsss.models import layer_cams

    images = cam_mirrors(context.config)
    classifier, normalize, activation = _classifier_on(name, context)
    with tf.device(name):
        maps = layer_cams(classifier, partial(rectified, activation=activation))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int32)], autograph=False)
    def traced(photos, classes):
        return maps(normalize(tf.cast(photos, tf.float32)), classes)[..., tf.newaxis]

    def of_classes(photos: list[np.ndarray], classes: list[int]) -> np.ndarray:
        """Photos of one size and a class for each -> [n, h, w], `batch` at a time."""
        found = []
        for first in range(0, len(photos), batch):
            some, own = photos[first : first + batch], classes[first : first + batch]
            each = np.array([*own, *[own[-1]] * (batch - len(own))] * len(images), np.int32)
            with tf.device(name):
                found.append(maps_of_scale(partial(traced, classes=each), filled(some, batch), images=images)[: len(some), ..., 0])
        return np.concatenate(found)

    def compute(photos: list[Scaled]) -> list[Mapped]:
        classes = [int(tag) for photo in photos for tag in photo.classes]
        ends = np.cumsum([len(photo.classes) for photo in photos])[:-1]
        scales = zip(*(photo.photos for photo in photos), strict=True)
        found = [np.split(of_classes([one for one, photo in zip(scale, photos, strict=True) for _ in photo.classes], classes), ends) for scale in scales]
        return [Mapped(photo.size, photo.classes, [maps[index] for maps in found]) for index, photo in enumerate(photos)]

    return compute


def _classifier_on(name: str, context: Context):
    """The trained classifier on a device, how its photos are normalised, and how its maps are rectified."""
    import tensorflow as tf

    from tfwsss.models import cam_activation, normalization
    from tfwsss.weights import load_model

    chosen, backbone = context.config.cams.activation, context.config.classifier.model.backbone
    with tf.device(name):
        model = load_model(weights_path(context.work, "classifier"))
    return model, normalization(backbone), cam_activation(backbone) if chosen == "auto" else chosen
