"""Stage `cams`: class activation maps of every training photo, at several scales and mirrored.

A photo's tags choose whose maps compete. A class of which nobody knows whether it is there competes, too, where the classifier
finds it (probability 0.5 or more): with its map times that probability, so that what is known wins where both are as strong.
"""

import numpy as np

from tfwsss.data import Dataset

from ..engine.context import Context
from ..engine.stage import Stage
from ..labelling.cams import Tagged, cam_work
from ..labelling.photos import each_photo
from ..labelling.timing import Timing
from .val_cams import classifier_logits


def run(context: Context) -> dict[str, float]:
    from tfwsss.storage.artifacts import artifact_path
    from tfwsss.training.loop import make_deterministic

    dataset, folder, timing = context.dataset("train"), context.folder("cams"), Timing()
    make_deterministic(context.config.seed)
    photos = [Tagged(sample, tags) for sample, tags in zip(dataset.samples, dataset.tag_matrix(), strict=True)]
    todo = [photo for photo in photos if not artifact_path(folder, photo.sample.id, ".npz").is_file()]
    todo = _with_unknown(context, dataset, todo)
    for _ in each_photo(context, "cams", todo, cam_work(context, dataset, folder, timing), timing):
        pass
    return {"images": len(photos), "computed": len(todo)}


def _with_unknown(context: Context, dataset: Dataset, photos: list[Tagged]) -> list[Tagged]:
    """The photos with the weights of those of their unknown classes that the classifier finds."""
    doubtful = [photo.sample for photo in photos if photo.sample.unknown]
    if not doubtful:
        return photos
    logits = classifier_logits(context, dataset, doubtful, "classifier on photos with unknown tags")
    found = {sample.id: 1.0 / (1.0 + np.exp(-one)) for sample, one in zip(doubtful, logits, strict=True)}
    return [Tagged(photo.sample, _weights(photo, found[photo.sample.id])) if photo.sample.id in found else photo for photo in photos]


def _weights(photo: Tagged, probabilities: np.ndarray) -> np.ndarray:
    weights = photo.tags.copy()
    for index in photo.sample.unknown:
        weights[index] = probabilities[index] if probabilities[index] >= 0.5 else 0.0
    return weights


STAGE = Stage(
    name="cams",
    run=run,
    labelling=True,
    tensorflow=True,
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
