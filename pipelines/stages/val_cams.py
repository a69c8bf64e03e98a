"""CAMs and random walk on the evaluation photos, for comparison with published figures; part of stage `label_scores`.

Published figures on evaluation photos give each photo its true tags, which a deployed system does not have
(switches.val_tags "faithful"). "corrected" takes the tags that the classifier finds, probability 0.5 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tfwsss.background import predict_label
from tfwsss.data import Dataset, Split
from tfwsss.data.dataset import Sample
from tfwsss.data.mirrors import with_mirrors
from tfwsss.metrics import ConfusionMatrix
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.storage.artifacts import load_walk

from ..engine.context import Context, weights_path
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.cams import Tagged, cam_mirrors, cams_of_split
from ..labelling.networks import network_on
from ..labelling.photos import Files, batch_size, each_photo, filled, unfinished
from ..labelling.saved_cams import SavedCams
from ..labelling.walk import walk_work
from .affinity_labels import used_alphas

CAMS, WALKS = "label_scores/val_cams", "label_scores/val_walk"
TAGS = {"faithful": "true tags", "corrected": "predicted tags"}


def classifier_logits(context: Context, split: Split, samples: Sequence[Sample], title: str = "classifier on the evaluation photos") -> dict[str, np.ndarray]:
    """{id: logits of the trained classifier, float32 [C]} of photos of a split, as large as at scale 1 of the CAMs and, with `cams.flip`, in the mean with their mirror images."""
    found = each_photo(context, title, samples, partial(_logits_of_split, split=split), network=True)
    return {sample.id: logits for sample, logits in zip(samples, found, strict=True)}


def _logits_of_split(context: Context, timing: Timing, split: Split) -> Work[Sample, Any, Any, np.ndarray]:
    from tfwsss.cam import scaled_photos
    from tfwsss.data.augment import pil_filter

    dataset, config = context.scored_dataset(split), context.config
    assert dataset is not None
    batch, filter = batch_size(context), pil_filter(config.switches.resize_filter)

    def read(sample: Sample) -> np.ndarray:
        return scaled_photos(dataset.read(sample), (1.0,), filter, long_side=config.cams.long_side)[0]

    def on_device(name: str):
        import tensorflow as tf

        from tfwsss.export.inference import normalized
        from tfwsss.models import normalization
        from tfwsss.weights import load_model

        normalize = normalization(config.classifier.model.backbone)
        with tf.device(name):
            model = load_model(weights_path(context.work, "classifier"))

        def logits(photos):
            return {"logits": model(normalized(tf.cast(photos, tf.float32), normalize), training=False)}

        network, images = network_on(name, config.runtime, logits), cam_mirrors(config)

        def compute(photos: list[np.ndarray]) -> list[np.ndarray]:
            seen = filled(photos, batch)
            found = np.asarray(network(with_mirrors(seen, images))["logits"])
            return list(found.reshape(len(images), len(seen), -1).mean(axis=0)[: len(photos)])

        return compute

    return Work(read, lambda sample, found: found, on_device, lambda photo: photo.shape, batch)


def compute_val_cams(context: Context, logits: dict[str, np.ndarray] | None = None) -> dict[str, float]:
    """CAMs and walks of the evaluation photos, with the tags that `switches.val_tags` says. Returns how many were made.

    Args:
        context: of the stage `label_scores`.
        logits: what the classifier says of all of them; None: it is asked where the tags depend on it.
    """
    dataset = scored_cams(context)
    if dataset is None:
        return {}
    cams, walks = Files(context.folder(CAMS), ".npz"), Files(context.folder(WALKS), ".npz")
    unwalked = unfinished(context, dataset.samples, walks)
    unmapped = dataset.subset(sample.id for sample in unfinished(context, unwalked, cams))
    tags = list(unmapped.tag_matrix())
    if context.config.switches.val_tags == "corrected":
        logits = logits or classifier_logits(context, "val", unmapped.samples)
        tags = [(logits[sample.id] >= 0).astype(np.float32) for sample in unmapped.samples]  # a logit of 0 is a probability of 0.5
    photos = [Tagged(sample, own) for sample, own in zip(unmapped.samples, tags, strict=True)]
    for _ in each_photo(context, "CAMs of the evaluation photos", photos, partial(cams_of_split, split="val", folder=CAMS), network=True, files=cams):
        pass
    for _ in each_photo(context, "walk of the evaluation photos", unwalked, _val_walk, network=True, files=walks):
        pass
    return {"val_walked": len(unwalked)}


def scored_cams(context: Context) -> Dataset | None:
    """The evaluation photos whose CAMs are to be scored; None where there are none."""
    dataset = context.scored_dataset("val")
    return dataset if dataset is not None and dataset.samples and dataset.masks is not None and context.config.evaluate.cams else None


def _val_walk(context: Context, timing: Timing) -> Work:
    dataset = context.dataset("val")
    assert dataset is not None
    return walk_work(context, dataset, context.work / CAMS, context.work / WALKS, (used_alphas(context.work).walk,), timing)


def score_val_cams(context: Context, threshold: float) -> tuple[dict[str, ConfusionMatrix], int]:
    """Score both on the evaluation photos that have a mask.

    Args:
        context: of the stage `label_scores`.
        threshold: CAM value from which a pixel is foreground; not chosen on these photos.

    Returns:
        {name that says where the tags are from: matrix}, and how many photos have a mask.
    """
    dataset, kind = context.scored_dataset("val"), TAGS[context.config.switches.val_tags]
    assert dataset is not None
    labels = dataset.num_classes + 1
    total, count = {f"CAM, {kind}": ConfusionMatrix(labels), f"walk, {kind}": ConfusionMatrix(labels)}, 0
    for found in each_photo(context, "scores of the evaluation photos", dataset.samples, partial(_val_scores, threshold=threshold)):
        if found is not None:
            count += 1
            for matrix, one in zip(total.values(), found, strict=True):
                matrix.merge(one)
    return total, count


def _val_scores(context: Context, timing: Timing, threshold: float) -> Work[Sample, Any, Any, list[ConfusionMatrix] | None]:
    dataset, work = context.scored_dataset("val"), context.work
    cams = SavedCams(work)
    assert dataset is not None
    labels = dataset.num_classes + 1

    def finish(sample: Sample, mask: np.ndarray | None) -> list[ConfusionMatrix] | None:
        if mask is None:
            return None
        classes, cam = cams.load(work / CAMS, sample.id)
        names, walked = load_walk(work / WALKS, sample.id)
        found = predict_label(classes, cam, threshold=threshold)
        return [ConfusionMatrix(labels).update(mask, label) for label in (found, label_of_scores(names, from_grid(walked, *mask.shape)))]

    return Work(dataset.mask, finish)
