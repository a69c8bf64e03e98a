"""What a run's segmenter says of photos that are not in its data, for a person to correct."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfwsss.config import Config
from tfwsss.data.image import image_size, read_picture, reduced, with_nearest
from tfwsss.errors import DataError, StageError
from tfwsss.exchange import LabelledPhoto
from tfwsss.processes import worker_count
from tfwsss.storage.artifacts import load_label, save_label

from ..engine.context import weights_path
from ..engine.progress import console, progress_bar
from ..engine.startup import load_tensorflow
from ..executors.threads import run_images
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.networks import network_on
from ..labelling.photo_list import Photo, chosen_photos, result_names
from ..labelling.photos import device_names


class Predicted(NamedTuple):
    """What the segmenter says of a photo, but for the label map, which is in a file.

    Attributes:
        photo: which.
        classes: {class index: mean probability of the class over its pixels}.
        confidence: mean of these; of a photo that shows no class, the mean probability of background.
    """

    photo: Photo
    classes: dict[int, float]
    confidence: float


def confidences(scores: np.ndarray, label: np.ndarray) -> tuple[dict[int, float], float]:
    """`Predicted.classes` and `Predicted.confidence` of scores [H, W, C + 1], which sum to 1, and their strongest labels [H, W]."""
    strongest = np.take_along_axis(scores, label[..., np.newaxis].astype(np.intp), axis=2)[..., 0]
    classes = {int(value) - 1: float(strongest[label == value].mean()) for value in np.unique(label) if value}
    return classes, float(np.mean(list(classes.values()))) if classes else float(strongest.mean())


def predict_photos(config: Config, images: Sequence[Path], labels: Path) -> list[Predicted]:
    """Write <labels>/<id>.png of each photo with the segmenter of the run, at one scale; photos that cannot be read are named and left out.

    Raises:
        StageError: the run has no segmenter yet.
        DataError: no photo is left.
    """
    weights = weights_path(config.work_dir, "segmenter")
    if not weights.is_file():
        raise StageError(f"{weights}: no such file; stage segmenter has not finished there (tfwsss run CONFIG --until segmenter)")
    load_tensorflow()
    timing, found = Timing(), []
    photos = [Photo(name, image) for image, name in result_names(chosen_photos(images)).items()]
    work = _segmenting(config, weights, labels)
    with progress_bar("segmenter on new photos", len(photos), config.runtime.progress, timing.shares) as bar:
        for result in run_images(photos, work, workers=worker_count(config.runtime.workers), devices=device_names(config.runtime), timing=timing):
            bar.advance()
            if isinstance(result, Predicted):
                found.append(result)
            else:
                console.print(f"left out: {result}", markup=False, soft_wrap=True)
    if not found:
        raise DataError("none of the photos can be read")
    return found


def _segmenting(config: Config, weights: Path, labels: Path) -> Work[Photo, np.ndarray | DataError, np.ndarray | DataError, Predicted | DataError]:
    def read(photo: Photo) -> np.ndarray | DataError:
        try:
            return np.array(reduced(read_picture(photo.image, config.data.max_megapixels), config.data.long_side))
        except DataError as error:
            return error

    def on_device(name: str):
        import tensorflow as tf

        from tfwsss.export.inference import Inference
        from tfwsss.models import normalization
        from tfwsss.weights import load_model

        with tf.device(name):
            inference = Inference(load_model(weights), normalization(config.segmenter.model.backbone))
        network = network_on(name, config.runtime, lambda photos: {"scores": inference.scores(photos)})
        return lambda loaded: [one if isinstance(one, DataError) else np.asarray(network(one[np.newaxis])["scores"])[0] for one in loaded]

    def finish(photo: Photo, scores: np.ndarray | DataError) -> Predicted | DataError:
        if isinstance(scores, DataError):
            return scores
        label = scores.argmax(axis=2).astype(np.uint8)
        save_label(labels, photo.id, label)
        return Predicted(photo, *confidences(scores, label))

    return Work(read, finish, on_device)


def labelled(predicted: Sequence[Predicted], labels: Path) -> Iterator[LabelledPhoto]:
    """The photos for `tfwsss.exchange`, in this order."""
    for photo, classes, confidence in predicted:
        label = at_photo_size(load_label(labels, photo.id), photo.image)
        yield LabelledPhoto(photo.id + photo.image.suffix, photo.image, confidence, classes, label)


def at_photo_size(label: np.ndarray, image: Path) -> np.ndarray:
    """A label map as large as the photo in its file, which may have been made smaller for us (`data.long_side`)."""
    return with_nearest(label, image_size(image))
