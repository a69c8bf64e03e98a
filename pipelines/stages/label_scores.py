"""Stage `label_scores`: CAMs, walk and pseudo labels, and the classifier, against masks and tags, where there are masks.

It comes before the segmenter, so that nobody has to train one to see them. Label maps are kept below label_scores/, so
that a killed run goes on and every score can be recomputed from files. Masks are read here, in `evaluate` and in the
report, nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfwsss.background import alpha_of_threshold, threshold_of_alpha
from tfwsss.crf import crf_scores
from tfwsss.data import Dataset
from tfwsss.data.dataset import Sample
from tfwsss.metrics import AveragePrecision, ConfusionMatrix, LabelSweep, ThresholdSweep, area_under_roc
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.report.table import ScoreRow
from tfwsss.storage.artifacts import artifact_path, load_label, load_walk, save_label
from tfwsss.storage.atomic import write_json

from ..engine.context import Context
from ..engine.progress import console
from ..engine.stage import Stage
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import Files, each_photo, unfinished
from ..labelling.refinement import prepare_crf
from ..labelling.saved_cams import SavedCams
from .affinity_labels import Mapped, read_mapped, used_alphas
from .audit_scores import audit_scores, doubtful, true_agreement
from .label_source import PLAIN
from .left_out import labelled
from .pseudo_labels import exponents
from .scoring import label_matrix, save_table, score_folders, score_row
from .val_cams import classifier_logits, compute_val_cams, score_val_cams, scored_cams

NAME = "label_scores"
CURVES = "curves.json"
REFINED = f"{NAME}/cam_crf"
THRESHOLDS = tuple(np.round(np.arange(0.02, 0.96, 0.02), 2))


class PhotoScores(NamedTuple):
    """What one photo with a mask adds to the scores.

    Attributes:
        photo: its id.
        cam: its CAMs at all thresholds.
        walk: labels of its walk.
        walks: the same at all `exponents`, the largest first; None where the walk was made before there were masks.
        confident: the label of `affinity_labels`, unsure pixels left out.
        plain, label: walked labels after the CRF, and the pseudo label.
        agreement: for the label audit, see `true_agreement`.
    """

    photo: str
    cam: ThresholdSweep
    confident: ConfusionMatrix
    walk: ConfusionMatrix
    walks: LabelSweep | None
    plain: ConfusionMatrix
    label: ConfusionMatrix
    agreement: float | None


def _photo_scores(context: Context, dataset: Dataset) -> Iterator[PhotoScores]:
    """Of the training photos that have a mask, one after another."""
    found = each_photo(context, "scores of CAMs and walk", dataset.samples, _scoring)
    return (scores for scores in found if scores is not None)


def _scoring(context: Context, timing: Timing) -> Work[Sample, Any, Any, PhotoScores | None]:
    dataset = context.scored_dataset("train")
    work, labels, alphas = context.work, dataset.num_classes + 1, exponents(context)
    cams = SavedCams(work)

    def finish(sample: Sample, mask: Any) -> PhotoScores | None:
        if mask is None:
            return None
        classes, cam = cams.load(work / "cams", sample.id)
        names, walked = load_walk(work / "walk", sample.id)
        scores = from_grid(walked, *mask.shape)
        walks = None
        if artifact_path(work / "walk", sample.id, ".png").is_file():
            foreground = label_of_scores(names, np.concatenate([np.full_like(scores[:1], -np.inf), scores[1:]]))
            walks = LabelSweep(labels, len(alphas)).add(mask, foreground, load_label(work / "walk", sample.id))
        return PhotoScores(
            sample.id,
            ThresholdSweep(labels, THRESHOLDS).update(mask, classes, cam),
            label_matrix(work / "affinity_labels", sample, mask, labels),
            ConfusionMatrix(labels).update(mask, label_of_scores(names, scores)),
            walks,
            label_matrix(work / PLAIN, sample, mask, labels),
            label_matrix(work / "pseudo_labels", sample, mask, labels),
            true_agreement(work, sample, mask, context.config.pseudo_labels.smallest_share),
        )

    return Work(dataset.mask, finish)


def _refine_cams(context: Context, dataset: Dataset, alpha: float) -> Path:
    """CAMs after a dense CRF -> the folder of label maps that is returned."""
    files = Files(context.folder(REFINED), ".png")
    todo = unfinished(context, dataset.samples, files)
    if todo:
        prepare_crf(context.config.affinity_labels.crf)
    for _ in each_photo(context, "CAM + CRF", todo, partial(_refining, alpha=alpha), files=files):
        pass
    return files.folder


def _refining(context: Context, timing: Timing, alpha: float) -> Work[Sample, Mapped, Mapped, None]:
    config, dataset = context.config, context.dataset("train")
    normalize = config.switches.crf_scores == "corrected"

    def finish(sample: Sample, photo: Mapped) -> None:
        with timing.measure("CRF"):
            scores = crf_scores(photo.classes, photo.cam, alpha, photo.image, config.affinity_labels.crf, normalize=normalize)
        with timing.measure("writing"):
            save_label(context.work / REFINED, sample.id, label_of_scores(photo.classes, scores))

    cams = SavedCams(context.work)
    return Work(lambda sample: read_mapped(dataset, cams, context.work / "cams", sample), finish)


def _training_rows(context: Context, dataset: Dataset) -> tuple[list[ScoreRow], dict, dict]:
    """CAM, CAM+CRF, confident labels, walk, walk+CRF and the pseudo labels on the training photos that have masks.

    The pseudo labels are scored on the photos and pixels that the segmenter is trained on, the confident ones on their sure pixels, the others on all.
    """
    labels, classes = dataset.num_classes + 1, dataset.classes
    alphas = exponents(context)
    sweep, confident, plain, walk = ThresholdSweep(labels, THRESHOLDS), ConfusionMatrix(labels), ConfusionMatrix(labels), ConfusionMatrix(labels)
    walks: LabelSweep | None = LabelSweep(labels, len(alphas))
    of_photo: dict[str, ConfusionMatrix] = {}
    agreements: dict[str, float] = {}
    for scores in _photo_scores(context, dataset):
        sweep.merge(scores.cam)
        confident.merge(scores.confident)
        plain.merge(scores.plain)
        walk.merge(scores.walk)
        walks = walks.merge(scores.walks) if walks is not None and scores.walks is not None else None
        of_photo[scores.photo] = scores.label
        if scores.agreement is not None:
            agreements[scores.photo] = scores.agreement
    if not of_photo:
        console.print("  no masks for the training photos: CAMs, walk and pseudo labels are not scored")
        return [], {}, {}
    threshold, _ = sweep.best()
    best_cam = sweep.matrices()[int(np.argmin(np.abs(sweep.thresholds - threshold)))]
    walk_alpha = used_alphas(context.work).walk
    of_alpha = {walk_alpha: walk}
    if walks is not None:
        of_alpha |= dict(zip(reversed(alphas), walks.matrices(), strict=True))
    best = max(of_alpha, key=lambda alpha: of_alpha[alpha].miou())
    alpha = alpha_of_threshold(threshold)
    masked = dataset.subset(of_photo)
    refined, count = score_folders(context, "scores of CAM + CRF", "train", masked.samples, {"CAM + CRF": _refine_cams(context, masked, alpha)})
    rows = [
        score_row("CAM", "train", best_cam, count, classes),
        score_row("CAM + CRF", "train", refined["CAM + CRF"], count, classes),
        score_row("confident labels", "train", confident, count, classes),
        score_row("walk", "train", walk, count, classes),
        score_row("walk, best alpha", "train", of_alpha[best], count, classes),
    ]
    if context.config.pseudo_labels.crf is not None:
        rows.append(score_row("walk + CRF", "train", plain, count, classes))
    used = [sample.id for sample in labelled(context.work, dataset).samples if sample.id in of_photo]
    surest = [photo for photo in used if photo not in doubtful(context, used)]
    for name, photos in {"pseudo labels": used, "pseudo labels, surest 90 %": surest}.items():
        if photos:  # photos with a mask may all be left out
            total = ConfusionMatrix(labels)
            for one in photos:
                total.merge(of_photo[one])
            rows.append(score_row(name, "train", total, len(photos), classes))
    curves = {
        "CAM": [[float(t), float(value)] for t, value in zip(sweep.thresholds, sweep.miou(), strict=True)],
        "walk": sorted([threshold_of_alpha(a), matrix.miou()] for a, matrix in of_alpha.items()),
    }
    facts = {"cam_best_threshold": threshold, "cam_best_alpha": alpha, "walk_alpha": walk_alpha, "walk_best_alpha": best}
    facts["confident_pixels"] = float(confident.counts.sum() / walk.counts.sum())
    facts |= audit_scores(context, agreements)
    return rows, curves, facts


def _validation_rows(context: Context, logits: dict[str, np.ndarray], threshold: float) -> list[ScoreRow]:
    """CAMs and walk of the evaluation photos, at the threshold of the training photos' CAMs."""
    dataset = scored_cams(context)
    if dataset is None:
        return []
    compute_val_cams(context, logits)
    matrices, masked = score_val_cams(context, threshold)
    return [score_row(name, "val", matrix, masked, dataset.classes) for name, matrix in matrices.items()] if masked else []


def map_evaluation_photos(context: Context) -> dict[str, float]:
    """CAMs and walks of the evaluation photos: what takes the time of this stage and does not depend on other photos."""
    from tfwsss.training.loop import make_deterministic

    make_deterministic(context.config.seed)
    return compute_val_cams(context)


def run(context: Context) -> dict[str, float]:
    from tfwsss.training.loop import make_deterministic

    make_deterministic(context.config.seed)
    rows, curves, metrics = _training_rows(context, context.scored_dataset("train"))
    validation = context.scored_dataset("val")
    if validation is not None and validation.samples:
        # Without training masks: the threshold that the walk's background stands for.
        threshold = metrics.get("cam_best_threshold", threshold_of_alpha(used_alphas(context.work).walk))
        found = classifier_logits(context, "val", validation.samples)
        rows += _validation_rows(context, found, threshold)
        logits = np.stack([found[sample.id] for sample in validation.samples])
        tags, known = validation.tag_matrix(), validation.known_matrix()
        metrics["classifier_map"] = AveragePrecision(validation.num_classes).update(logits, tags, known).mean()
        tagged = tags.max(axis=1) > 0
        decided = tagged | (known.min(axis=1) > 0)
        if not tagged[decided].all():  # whether a photo shows any class at all, such as a defect
            metrics["classifier_any_auc"] = area_under_roc(logits.max(axis=1)[decided], tagged[decided])
    path = context.folder(NAME) / CURVES
    write_json(path, curves)
    context.run.artifact(path)
    return metrics | save_table(context, NAME, rows)


STAGE = Stage(
    name=NAME,
    run=run,
    photos=map_evaluation_photos,
    labelling=True,
    tensorflow=True,
    needs=("classifier", "cams", "affinity_labels", "affinitynet", "pseudo_labels", "label_audit"),
    data=("train", "val", "train_masks", "val_masks"),
    settings=("evaluate.cams", "affinity_labels.crf", "switches.crf_scores", "switches.val_tags"),
    code=(
        "tfwsss_pipelines.stages.label_scores",
        "tfwsss_pipelines.stages.scoring",
        "tfwsss_pipelines.stages.val_cams",
        "tfwsss_pipelines.stages.left_out",
        "tfwsss_pipelines.stages.audit_scores",
        "tfwsss_pipelines.stages.pseudo_labels",
        "tfwsss_pipelines.labelling.cams",
        "tfwsss_pipelines.labelling.networks",
        "tfwsss_pipelines.labelling.saved_cams",
        "tfwsss_pipelines.labelling.walk",
        "tfwsss.interpolation",
        "tfwsss.stencil",
        "tfwsss.cam",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.metrics",
        "tfwsss.pseudolabel",
        "tfwsss.tag_consistency",
        "tfwsss.label_audit",
        "tfwsss.background",
        "tfwsss.size_prior",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
)
