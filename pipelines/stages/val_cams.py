"""CAMs and random walk on the evaluation photos, for comparison with published figures; part of stage `label_scores`.

Published figures on evaluation photos give each photo its true tags, which a deployed system does not have
(switches.val_tags "faithful"). "corrected" takes the tags that the classifier finds, probability 0.5 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfwsss.background import predict_label
from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.metrics import ConfusionMatrix
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.storage.artifacts import artifact_path, load_cam, load_walk

from ..engine.context import Context, weights_path
from ..labelling.cams import Tagged, cam_work
from ..labelling.networks import network_on
from ..labelling.photos import batch_size, each_photo, filled
from ..labelling.timing import Timing
from ..labelling.walk import walk_work
from ..labelling.work import Work
from .affinity_labels import used_alphas

CAMS, WALKS = "label_scores/val_cams", "label_scores/val_walk"
TAGS = {"faithful": "true tags", "corrected": "predicted tags"}


def classifier_logits(context: Context, dataset: Dataset, samples: Sequence[Sample], title: str = "classifier on the evaluation photos") -> np.ndarray:
    """Logits of the trained classifier on photos at their own sizes, float32 [N, C]."""
    batch = batch_size(context)

    def on_device(name: str):
        import tensorflow as tf

        from tfwsss.export.inference import normalized
        from tfwsss.models import normalization
        from tfwsss.weights import load_model

        normalize = normalization(context.config.classifier.model.backbone)
        with tf.device(name):
            model = load_model(weights_path(context.work, "classifier"))

        def logits(photos):
            return {"logits": model(normalized(tf.cast(photos, tf.float32), normalize), training=False)}

        network = network_on(name, context.config.runtime, logits)
        return lambda photos: list(np.asarray(network(filled(photos, batch))["logits"])[: len(photos)])

    work: Work[Sample, Any, Any, np.ndarray] = Work(dataset.read, lambda sample, found: found, on_device, lambda photo: photo.shape, batch)
    found = list(each_photo(context, title, samples, work, Timing()))
    return np.stack(found) if found else np.zeros((0, dataset.num_classes), np.float32)


def compute_val_cams(context: Context, dataset: Dataset, logits: np.ndarray) -> None:
    """CAMs and walks of all photos of the split, with the tags that `switches.val_tags` says.

    Args:
        context: of the stage `label_scores`.
        dataset: the evaluation photos.
        logits: what the classifier says of them, [N, C].
    """
    cams, walks, timing = context.folder(CAMS), context.folder(WALKS), Timing()
    # A logit of 0 is a probability of 0.5.
    tags = dataset.tag_matrix() if context.config.switches.val_tags == "faithful" else (logits >= 0).astype(np.float32)
    photos = [Tagged(sample, own) for sample, own in zip(dataset.samples, tags, strict=True)]
    unmapped = [photo for photo in photos if not artifact_path(cams, photo.sample.id, ".npz").is_file()]
    for _ in each_photo(context, "CAMs of the evaluation photos", unmapped, cam_work(context, dataset, cams, timing), timing):
        pass
    unwalked = [sample for sample in dataset.samples if not artifact_path(walks, sample.id, ".npz").is_file()]
    timing = Timing()
    work = walk_work(context, dataset, cams, walks, (used_alphas(context.work).walk,), timing)
    for _ in each_photo(context, "walk of the evaluation photos", unwalked, work, timing):
        pass


def score_val_cams(context: Context, dataset: Dataset, threshold: float) -> tuple[dict[str, ConfusionMatrix], int]:
    """Score both on the evaluation photos that have a mask.

    Args:
        context: of the stage `label_scores`.
        dataset: the evaluation photos.
        threshold: CAM value from which a pixel is foreground; not chosen on these photos.

    Returns:
        {name that says where the tags are from: matrix}, and how many photos have a mask.
    """
    labels, work = dataset.num_classes + 1, context.work
    kind = TAGS[context.config.switches.val_tags]
    total, count = {f"CAM, {kind}": ConfusionMatrix(labels), f"walk, {kind}": ConfusionMatrix(labels)}, 0

    def finish(sample: Sample, mask: np.ndarray | None) -> list[ConfusionMatrix] | None:
        if mask is None:
            return None
        classes, cam = load_cam(work / CAMS, sample.id)
        names, walked = load_walk(work / WALKS, sample.id)
        found = predict_label(classes, cam, threshold=threshold)
        return [ConfusionMatrix(labels).update(mask, label) for label in (found, label_of_scores(names, from_grid(walked, *mask.shape)))]

    scoring: Work[Sample, Any, Any, list[ConfusionMatrix] | None] = Work(dataset.mask, finish)
    for found in each_photo(context, "scores of the evaluation photos", dataset.samples, scoring, Timing()):
        if found is not None:
            count += 1
            for matrix, one in zip(total.values(), found, strict=True):
                matrix.merge(one)
    return total, count
