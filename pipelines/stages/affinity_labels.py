"""Stage `affinity_labels`: confident foreground and background by two dense-CRF passes over each photo's CAMs."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfwsss.background import CamHistogram, alphas_around, choose_alphas, combine_crf, threshold_of_alpha
from tfwsss.config import NAMED_ALPHAS, FixedAlphas
from tfwsss.crf import crf_scores_of_alphas
from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.size_prior import THRESHOLD
from tfwsss.storage.artifacts import save_label, save_scores
from tfwsss.storage.atomic import read_json, write_json

from ..engine.context import Context
from ..engine.progress import console
from ..engine.stage import Stage
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import Files, each_photo, unfinished
from ..labelling.refinement import prepare_crf
from ..labelling.saved_cams import EXPONENTS, SavedCams, write_exponents

ALPHAS = "alphas.json"


class Mapped(NamedTuple):
    """A photo [H, W, 3] uint8 and its CAMs [K, H, W]."""

    image: np.ndarray
    classes: np.ndarray
    cam: np.ndarray


def read_mapped(dataset: Dataset, cams: SavedCams, folder: Path, sample: Sample) -> Mapped:
    """Photo and CAMs, enlarged to the photo's size."""
    image = dataset.read(sample)
    classes, cam = cams.load(folder, sample.id)
    return Mapped(image, classes, cam)


def label_work(context: Context, dataset: Dataset, folder: Path, alphas: FixedAlphas, timing: Timing) -> Work[Sample, Mapped, Mapped, None]:
    """Both CRF passes of a photo -> <folder>/<id>.png, and the scores where they are wanted."""
    config, settings = context.config, context.config.affinity_labels
    normalize = config.switches.crf_scores == "corrected"

    def finish(sample: Sample, photo: Mapped) -> None:
        with timing.measure("CRF"):
            low, high = crf_scores_of_alphas(photo.classes, photo.cam, (alphas.low, alphas.high), photo.image, settings.crf, normalize=normalize)
        with timing.measure("writing"):
            if config.affinitynet.label_source == "scores":
                save_scores(folder, sample.id, photo.classes, low, high)
            # Written last: its presence says that the photo is done.
            save_label(folder, sample.id, combine_crf(low, high, photo.classes))

    cams = SavedCams(context.work)
    return Work(lambda sample: read_mapped(dataset, cams, context.work / "cams", sample), finish)


def used_alphas(work) -> FixedAlphas:
    """The background exponents of a run."""
    return FixedAlphas.model_validate(read_json(work / "affinity_labels" / ALPHAS))


def _labels(context: Context, timing: Timing, alphas: FixedAlphas) -> Work[Sample, Mapped, Mapped, None]:
    return label_work(context, context.dataset("train"), context.work / "affinity_labels", alphas, timing)


def _alphas(context: Context) -> FixedAlphas:
    wanted = context.config.affinity_labels.alphas
    if isinstance(wanted, FixedAlphas):
        return wanted
    if wanted in NAMED_ALPHAS:
        return NAMED_ALPHAS[wanted]
    if set(context.config.affinity_labels.shares or {}) == set(context.dataset("train").classes):
        return alphas_around(THRESHOLD)
    total = CamHistogram()
    for one in each_photo(context, "background exponents", context.dataset("train").samples, _histogram):
        total.merge(one)
    return choose_alphas(total)


def _histogram(context: Context, timing: Timing) -> Work[Sample, Any, Any, CamHistogram]:
    cams = SavedCams(context.work)
    return Work(lambda sample: cams.load(context.work / "cams", sample.id)[1], lambda _, cam: CamHistogram().update(cam))


def make_labels(context: Context) -> dict[str, float]:
    folder = context.folder("affinity_labels")
    with context.alone():
        if context.config.affinity_labels.shares and not (context.work / EXPONENTS).is_file():
            write_exponents(context)
        if not (folder / ALPHAS).is_file():
            write_json(folder / ALPHAS, _alphas(context).model_dump())
    alphas = used_alphas(context.work)
    shown = ", ".join(f"{name} {alpha:.3g} (threshold {threshold_of_alpha(alpha):.2f})" for name, alpha in alphas)
    console.print(f"  background exponents: {shown}")
    files = Files(folder, ".png")
    todo = unfinished(context, context.dataset("train").samples, files)
    if todo:
        prepare_crf(context.config.affinity_labels.crf)
    for _ in each_photo(context, "affinity_labels", todo, partial(_labels, alphas=alphas), files=files):
        pass
    return {"computed": len(todo)}


def run(context: Context) -> dict[str, float]:
    made = make_labels(context)
    return {"images": len(context.dataset("train")), **made, **{f"alpha_{name}": value for name, value in used_alphas(context.work)}}


STAGE = Stage(
    name="affinity_labels",
    run=run,
    photos=make_labels,
    labelling=True,
    needs=("cams",),
    data=("train",),
    settings=("affinity_labels", "affinitynet.label_source", "switches.crf_scores"),
    code=("tfwsss_pipelines.stages.affinity_labels", "tfwsss_pipelines.labelling.saved_cams", "tfwsss.background", "tfwsss.size_prior", "tfwsss.crf", "tfwsss_densecrf", "tfwsss.interpolation", "tfwsss.storage.artifacts"),
)
