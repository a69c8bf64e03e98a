"""Which photos a training stage learns from, and where their labels come from."""

from __future__ import annotations

from typing import Literal

from tfwsss.data import Dataset
from tfwsss.data.label_sources import LabelFolder, LabelSource, MixedLabels, StrongMasks
from tfwsss.storage.atomic import read_json

from ..engine.context import STRONG_MASKS, USABLE, Context
from ..engine.progress import console
from .left_out import labelled


def labelled_photos(context: Context, labels: Literal["pseudo", "masks"], made: str) -> tuple[Dataset, LabelSource]:
    """The photos of one training, with their labels.

    Args:
        context: of the stage.
        labels: the stage's field of that name: "pseudo", photos with a mask in data.strong_masks with it, and the others with what
            a stage has made, those left out for their label aside; or "masks", those that have a mask, with it.
        made: folder of the stage that makes labels.
    """
    dataset = context.dataset("train")
    ids = frozenset(read_json(context.work / "data" / USABLE).get(STRONG_MASKS, ()))
    if labels == "pseudo":
        kept = labelled(context.work, dataset, ids) if made == "pseudo_labels" else dataset
        folder = LabelFolder(context.work / made)
        if not ids:
            return kept, folder
        console.print(f"  labels: masks of {len(ids)} photos, made labels of {len(kept) - len(ids)}")
        return kept, MixedLabels(StrongMasks(dataset, ids), folder)
    console.print(f"  labels: masks, which {len(ids)} of {len(dataset)} photos have")
    return dataset.subset(ids), StrongMasks(dataset, ids)
