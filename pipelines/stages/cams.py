"""Stage `cams`: class activation maps of every training photo, at several scales and mirrored.

A photo's tags choose whose maps compete. A class of which nobody knows whether it is there competes, too, where the classifier
finds it (probability 0.5 or more): with its map times that probability, so that what is known wins where both are as strong.
"""

from functools import partial

import numpy as np

from ..engine.context import Context
from ..engine.stage import Stage
from ..labelling.cams import Tagged, cams_of_split
from ..labelling.photos import Files, each_photo, unfinished
from .val_cams import classifier_logits


def make_cams(context: Context) -> dict[str, float]:
    dataset = context.dataset("train")
    tagged = [Tagged(sample, tags) for sample, tags in zip(dataset.samples, dataset.tag_matrix(), strict=True)]
    files = Files(context.folder("cams"), ".npz")
    todo = _with_unknown(context, unfinished(context, tagged, files))
    for _ in each_photo(context, "cams", todo, partial(cams_of_split, split="train", folder="cams"), network=True, files=files):
        pass
    return {"computed": len(todo)}


def run(context: Context) -> dict[str, float]:
    return {"images": len(context.dataset("train"))} | make_cams(context)


def _with_unknown(context: Context, photos: list[Tagged]) -> list[Tagged]:
    """The photos with the weights of those of their unknown classes that the classifier finds."""
    doubtful = [photo.sample for photo in photos if photo.sample.unknown]
    if not doubtful:
        return photos
    logits = classifier_logits(context, "train", doubtful, "classifier on photos with unknown tags")
    found = {id: 1.0 / (1.0 + np.exp(-one)) for id, one in logits.items()}
    return [Tagged(photo.sample, _weights(photo, found[photo.id])) if photo.id in found else photo for photo in photos]


def _weights(photo: Tagged, probabilities: np.ndarray) -> np.ndarray:
    weights = photo.tags.copy()
    for index in photo.sample.unknown:
        weights[index] = probabilities[index] if probabilities[index] >= 0.5 else 0.0
    return weights


STAGE = Stage(
    name="cams",
    run=run,
    photos=make_cams,
    labelling=True,
    needs=("classifier",),
    data=("train",),
    settings=("cams", "switches.resize_filter"),
    code=(
        "tfwsss_pipelines.stages.cams",
        "tfwsss_pipelines.stages.val_cams",
        "tfwsss_pipelines.labelling.cams",
        "tfwsss_pipelines.labelling.networks",
        "tfwsss.cam",
        "tfwsss.interpolation",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
)
