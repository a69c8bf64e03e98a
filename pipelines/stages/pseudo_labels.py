"""Stage `pseudo_labels`: the random walk over the learned affinities, then an optional dense CRF (section 3.3 of the paper).

label_votes/plain, label_votes/normalised    labels of the walked maps and of the normalised ones (tfwsss.tag_consistency)
pseudo_labels/<id>.png                       what both say with switches.label_tags "corrected", the plain one with "faithful"; or the label
                                             of the stage affinity_labels, see pseudo_labels.source
pseudo_labels/left_out.csv                   photos no segmenter is trained on, with the reason
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.pseudolabel import pseudo_labels
from tfwsss.storage.artifacts import IGNORE, artifact_path, keep_label, load_label, load_walk, save_label
from tfwsss.tag_consistency import agreed_label, confident_label, missing, normalized, vanished

from ..engine.context import Context
from ..engine.progress import console
from ..engine.stage import Stage
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import Files, each_photo, unfinished
from ..labelling.refinement import prepare_crf
from ..labelling.walk import walk_work
from .affinity_labels import used_alphas
from .label_source import NORMALISED, PLAIN, LabelSource, label_source
from .left_out import LeftOut, write_left_out

MOST = 0.5  # of a class's photos


def voter(context: Context, timing: Timing):
    """Function (sample, image) that makes a photo's two votes of its walk's file, so that they do not depend on a restart."""
    work, crf = context.work, context.config.pseudo_labels.crf

    def vote(sample: Sample, image: np.ndarray) -> None:
        classes, walked = load_walk(work / "walk", sample.id)
        with timing.measure("CRF"):
            plain, normalised = pseudo_labels(classes, [walked, normalized(walked)], image, crf)
        with timing.measure("writing"):
            keep_label(work / PLAIN, sample.id, plain)
            # Written last: its presence says that the photo is done.
            save_label(work / NORMALISED, sample.id, normalised)

    return vote


class _Outcome(NamedTuple):
    """What a photo's finished labels say.

    Attributes:
        lost: tagged classes that are in neither vote, or not in the confident label.
        ignored, pixels: how many pixels of its label are 255, and how many there are.
    """

    lost: tuple[int, ...]
    ignored: int
    pixels: int


def _labelling(context: Context, timing: Timing, source: LabelSource) -> Work[Sample, Any, Any, _Outcome]:
    """Votes and confident labels -> pseudo_labels/<id>.png. Without `switches.label_tags` the label is the plain vote, or the confident one."""
    work, share, corrected = context.work, context.config.pseudo_labels.smallest_share, context.config.switches.label_tags == "corrected"

    def of_walk(sample: Sample) -> tuple[np.ndarray, tuple[int, ...]]:
        plain, normalised = (load_label(work / folder, sample.id) for folder in (PLAIN, NORMALISED))
        return agreed_label(plain, normalised, sample.tags, share) if corrected else plain, missing(plain, normalised, sample.tags, share)

    def of_confident(sample: Sample) -> tuple[np.ndarray, tuple[int, ...]]:
        label = load_label(work / "affinity_labels", sample.id)
        return confident_label(label, sample.tags, share) if corrected else label, vanished(label, sample.tags, share)

    def finish(sample: Sample, _) -> _Outcome:
        label, lost = of_confident(sample) if source == "confident" else of_walk(sample)
        path = artifact_path(work / "pseudo_labels", sample.id, ".png")
        # What a killed run has left may be of the other source: photos that came back from the quarantine are counted, too.
        if not path.is_file() or not np.array_equal(load_label(work / "pseudo_labels", sample.id), label):
            save_label(work / "pseudo_labels", sample.id, label)
        return _Outcome(lost, int(np.count_nonzero(label == IGNORE)), label.size)

    return Work(lambda sample: sample, finish)


def _left_out(dataset: Dataset, outcomes: list[_Outcome], smallest_share: float) -> list[LeftOut]:
    """Photos whose label lacks a tagged class for good."""
    return [
        LeftOut(sample.id, f"less than {smallest_share:.3g} of the pixels: {', '.join(dataset.classes[k] for k in outcome.lost)}")
        for sample, outcome in zip(dataset.samples, outcomes, strict=True)
        if outcome.lost
    ]


def _small_classes(dataset: Dataset, outcomes: list[_Outcome], smallest_share: float) -> list[str]:
    """A line for each class that most of the labels of its photos lack: it is smaller than that, or its maps are wrong."""
    tagged = Counter(tag for sample in dataset.samples for tag in sample.tags)
    lost = Counter(index for outcome in outcomes for index in outcome.lost)
    return [
        f"  {dataset.classes[index]}: {lost[index]} of {count} labels lack it, less than {smallest_share:.3g} of the pixels; if its objects are so small, lower pseudo_labels.smallest_share"
        for index, count in sorted(tagged.items())
        if lost[index] > MOST * count
    ]


def exponents(context: Context) -> tuple[float, ...]:
    """Background exponents of the evaluation's curve, ascending, that of the labels among them."""
    return tuple(sorted({used_alphas(context.work).walk, *context.config.pseudo_labels.more_alphas}))


def _alphas(context: Context) -> tuple[float, ...]:
    """Background exponents: the labels' one, and where masks will score the walk those of the evaluation's curve."""
    used = used_alphas(context.work).walk
    scored = context.scored_dataset("train").masks is not None
    return used, *(alpha for alpha in exponents(context) if scored and alpha != used)


def _vote(context: Context, timing: Timing) -> Work[Sample, np.ndarray, np.ndarray, None]:
    return Work(context.dataset("train").read, voter(context, timing))


def _walk_and_vote(context: Context, timing: Timing) -> Work:
    return walk_work(context, context.dataset("train"), context.work / "cams", context.work / "walk", _alphas(context), timing, voter(context, timing))


def make_votes(context: Context) -> dict[str, float]:
    """Walks and their labels: what takes the time of this stage and does not depend on other photos."""
    walks = context.folder("walk")
    files = Files(context.folder(NORMALISED), ".png")
    todo = unfinished(context, context.dataset("train").samples, files)
    walked = [sample for sample in todo if artifact_path(walks, sample.id, ".npz").is_file()]
    unwalked = [sample for sample in todo if not artifact_path(walks, sample.id, ".npz").is_file()]
    if todo:
        prepare_crf(context.config.pseudo_labels.crf)
    for _ in each_photo(context, "labels of finished walks", walked, _vote, files=files):
        pass
    for _ in each_photo(context, "pseudo_labels", unwalked, _walk_and_vote, network=True, files=files):
        pass
    return {"walked": len(unwalked), "computed": len(todo)}


def run(context: Context) -> dict[str, float]:
    config, dataset = context.config, context.dataset("train")
    smallest_share = config.pseudo_labels.smallest_share if config.switches.label_tags == "corrected" else None
    context.folder("pseudo_labels")
    made = make_votes(context)
    source, kept = label_source(context)
    outcomes = list(each_photo(context, "choice of labels", dataset.samples, partial(_labelling, source=source)))
    left_out = [] if smallest_share is None else _left_out(dataset, outcomes, smallest_share)
    context.run.artifact(write_left_out(context.work, left_out))
    if left_out:
        console.print(f"  {len(left_out)} of {len(dataset.samples)} photos left out of the segmenter's training: a tagged class has vanished from their label", markup=False)
        for line in _small_classes(dataset, outcomes, config.pseudo_labels.smallest_share):
            console.print(line, style="yellow", markup=False, soft_wrap=True)
    return {
        "images": len(dataset.samples),
        **made,
        **kept,
        "left_out": len(left_out),
        "ignored_pixels": sum(outcome.ignored for outcome in outcomes) / sum(outcome.pixels for outcome in outcomes),
    }


STAGE = Stage(
    name="pseudo_labels",
    run=run,
    photos=make_votes,
    labelling=True,
    needs=("cams", "affinity_labels", "affinitynet"),
    data=("train",),
    settings=("pseudo_labels", "switches.border_pairs", "switches.label_tags"),
    code=(
        "tfwsss_pipelines.stages.pseudo_labels",
        "tfwsss_pipelines.stages.label_source",
        "tfwsss_pipelines.stages.left_out",
        "tfwsss_pipelines.labelling.networks",
        "tfwsss_pipelines.labelling.saved_cams",
        "tfwsss_pipelines.labelling.walk",
        "tfwsss.pseudolabel",
        "tfwsss.tag_consistency",
        "tfwsss.background",
        "tfwsss.size_prior",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.stencil",
        "tfwsss.interpolation",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
    outputs=("walk", PLAIN, NORMALISED),
)
