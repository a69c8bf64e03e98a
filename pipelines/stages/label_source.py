"""Which labels the segmenter learns where `pseudo_labels.source` leaves it open: those of the walk, or the confident ones.

The walk goes over cells of 8 pixels and averages over what it thinks is one object. Specks and hairlines do not survive it, and
no mask is needed to see that: classes that the photos are tagged with are missing from its labels. Where it loses them in more
than half of the photos, the confident labels are the better ones, whose maps keep the resolution of the class activation maps.
Otherwise the walk's are, even where the confident ones are right more often: these leave out the pixels that are hard to learn.
"""

from __future__ import annotations

from collections.abc import Iterable
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
LEAST_KEPT = 0.5  # of the tags; it is 0.88 and 0.95 on photos and scenes, 0.23 on defects (docs/results.md)


def label_source(context: Context) -> tuple[LabelSource, dict[str, float]]:
    """(the source, the metric `walk_kept` where it decided)."""
    config = context.config
    if config.pseudo_labels.source != "auto":
        return config.pseudo_labels.source, {}
    if config.switches.label_tags == "faithful":
        return "walk", {}
    samples = context.dataset("train").samples
    lost: Iterable[tuple[int, ...]] = each_photo(context, "tags of the walk", samples, _lost)
    kept = mean_kept((sample.tags, missing) for sample, missing in zip(samples, lost, strict=True))
    source: LabelSource = "walk" if kept >= LEAST_KEPT else "confident"
    console.print(f"  the walk keeps {100 * kept:.0f} % of the tags: the segmenter learns {'its' if source == 'walk' else 'the confident'} labels", markup=False)
    return source, {"walk_kept": kept}


def _lost(context: Context, timing: Timing) -> Work[Sample, Any, Any, tuple[int, ...]]:
    share = context.config.pseudo_labels.smallest_share
    return Work(lambda sample: sample, lambda sample, _: vanished(load_label(context.work / PLAIN, sample.id), sample.tags, share))
