"""Which photos a training stage learns from, and where their labels come from."""

from __future__ import annotations

from typing import Literal

from tfwsss.data import Dataset
from tfwsss.data.label_sources import LabelFolder, LabelSource, StrongMasks
from tfwsss.storage.atomic import read_json

from ..engine.context import STRONG_MASKS, USABLE, Context
from ..engine.progress import console
from .left_out import labelled


def labelled_photos(context: Context, labels: Literal["pseudo", "masks"], made: str) -> tuple[Dataset, LabelSource]:
    """The photos of one training, with their labels.

    Args:
        context: of the stage.
        labels: the stage's field of that name: "pseudo", photos with what a stage has made, those left out for their label
            aside, or "masks", those photos that have a mask in data.strong_masks, with it.
        made: folder of the stage that makes labels.
    """
    dataset = context.dataset("train")
    if labels == "pseudo":
        kept = labelled(context.work, dataset) if made == "pseudo_labels" else dataset
        return kept, LabelFolder(context.work / made)
    ids = frozenset(read_json(context.work / "data" / USABLE)[STRONG_MASKS])
    console.print(f"  labels: masks, which {len(ids)} of {len(dataset)} photos have")
    return dataset.subset(ids), StrongMasks(dataset, ids)
