"""Which labels the segmenter learns where `pseudo_labels.source` leaves it open: those of the walk, or the confident ones.

The walk goes over cells of 8 pixels and averages over what it thinks is one object: specks and hairlines do not survive it. The
confident labels keep the resolution of the class activation maps, but where these are vague they are sure of little. Either loses
classes that the photos are tagged with, which is seen without a mask, and the one that loses less is taken.
"""

from __future__ import annotations

from typing import Any, Literal

from tfwsss.data.dataset import Sample
from tfwsss.storage.artifacts import load_label
from tfwsss.tag_consistency import mean_kept, vanished

from ..engine.context import Context
from ..engine.progress import console
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import each_photo

LabelSource = Literal["walk", "confident"]
PLAIN, NORMALISED = "label_votes/plain", "label_votes/normalised"


def label_source(context: Context) -> tuple[LabelSource, dict[str, float]]:
    """(the source, the metrics `walk_kept` and `confident_kept` where they decided: see `tfwsss.tag_consistency.mean_kept`)."""
    config = context.config
    if config.pseudo_labels.source != "auto":
        return config.pseudo_labels.source, {}
    if config.switches.label_tags == "faithful":
        return "walk", {}
    samples = context.dataset("train").samples
    lost = list(each_photo(context, "tags of the labels", samples, _lost))
    walk, confident = (mean_kept((sample.tags, one[kind]) for sample, one in zip(samples, lost, strict=True)) for kind in range(2))
    source: LabelSource = "walk" if walk >= confident else "confident"
    console.print(
        f"  the walk keeps {100 * walk:.0f} % of the tags, the confident labels {100 * confident:.0f} %: "
        f"the segmenter learns {'the walk' if source == 'walk' else 'the confident ones'}",
        markup=False,
    )
    return source, {"walk_kept": walk, "confident_kept": confident}


def _lost(context: Context, timing: Timing) -> Work[Sample, Any, Any, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Tagged classes that have vanished from the label of the walk, and from the confident one."""
    work, share = context.work, context.config.pseudo_labels.smallest_share

    def finish(sample: Sample, _):
        walk, confident = (vanished(load_label(work / folder, sample.id), sample.tags, share) for folder in (PLAIN, "affinity_labels"))
        return walk, confident

    return Work(lambda sample: sample, finish)
