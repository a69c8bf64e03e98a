"""Stage `label_scores`: CAMs, walk and pseudo labels, and the classifier, against masks and tags, where there are masks.

It comes before the segmenter, so that nobody has to train one to see them. Label maps are kept below label_scores/, so
that a killed run goes on and every score can be recomputed from files. Masks are read here, in `evaluate` and in the
report, nowhere else.
"""

import numpy as np

from tfwsss.background import alpha_of_threshold, threshold_of_alpha
from tfwsss.config import Crf
from tfwsss.crf import crf_scores
from tfwsss.data.image import read_image
from tfwsss.metrics import AveragePrecision, ConfusionMatrix, ThresholdSweep
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.report.table import ScoreRow
from tfwsss.storage.artifacts import artifact_path, load_cam, load_walk, save_label
from tfwsss.storage.atomic import write_json

from ..engine.context import Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage
from .affinity_labels import used_alphas
from .audit_scores import audit_scores, surest
from .left_out import labelled
from .pseudo_labels import PLAIN
from .refinement import map_photos, prepare_crf
from .scoring import save_table, score_labels, score_row, with_masks
from .val_cams import classifier_logits, score_val_cams

NAME = "label_scores"
CURVES = "curves.json"
THRESHOLDS = tuple(np.round(np.arange(0.02, 0.96, 0.02), 2))


def cam_crf_image(image_path, image_id: str, cams, folder, alpha: float, crf: Crf, normalize: bool, max_megapixels: float) -> None:
    """Label of one photo's CAMs after a dense CRF."""
    classes, cam = load_cam(cams, image_id)
    scores = crf_scores(classes, cam, alpha, read_image(image_path, max_megapixels), crf, normalize=normalize)
    save_label(folder, image_id, label_of_scores(classes, scores))


def _training_rows(context: Context, dataset) -> tuple[list[ScoreRow], dict, dict]:
    """CAM, CAM+CRF, walk, walk+CRF and the pseudo labels on the training photos that have masks.

    The pseudo labels are scored on the photos and pixels that the segmenter is trained on, the others on all.
    """
    config, work = context.config, context.work
    masked = with_masks(dataset)
    if not masked:
        console.print("  no masks for the training photos: CAMs, walk and pseudo labels are not scored")
        return [], {}, {}
    labels, classes = dataset.num_classes + 1, dataset.classes
    sweep = ThresholdSweep(labels, THRESHOLDS)
    walks: dict[float, ConfusionMatrix] = {}
    with progress_bar("scores of CAMs and walk", len(masked), config.runtime.progress) as bar:
        for sample, mask in masked:
            sweep.update(mask, *load_cam(work / "cams", sample.id))
            names, alphas, background, foreground = load_walk(work / "walk", sample.id)
            scores = from_grid(np.concatenate([background, foreground]), *mask.shape)
            for index, alpha in enumerate(alphas):
                label = label_of_scores(names, np.concatenate([scores[index : index + 1], scores[len(alphas) :]]))
                walks.setdefault(float(alpha), ConfusionMatrix(labels)).update(mask, label)
            bar.advance()
    threshold, _ = sweep.best()
    best_cam = sweep.matrices()[int(np.argmin(np.abs(sweep.thresholds - threshold)))]
    walk_alpha = next(iter(walks))
    best = max(walks, key=lambda alpha: walks[alpha].miou())
    alpha = alpha_of_threshold(threshold)

    folder = context.folder(f"{NAME}/cam_crf")
    todo = [sample for sample, _ in masked if not artifact_path(folder, sample.id, ".png").is_file()]
    normalize = config.switches.crf_scores == "corrected"
    arguments = (
        (sample.image, sample.id, work / "cams", folder, alpha, config.affinity_labels.crf, normalize, dataset.max_megapixels)
        for sample in todo
    )
    if todo:
        prepare_crf(config.affinity_labels.crf)
    with progress_bar("CAM + CRF", len(todo), config.runtime.progress) as bar:
        for _ in map_photos(cam_crf_image, arguments, config.runtime.workers, config.affinity_labels.crf):
            bar.advance()

    count = len(masked)
    rows = [
        score_row("CAM", "train", best_cam, count, classes),
        score_row("CAM + CRF", "train", score_labels(folder, masked, labels), count, classes),
        score_row("walk", "train", walks[walk_alpha], count, classes),
        score_row("walk, best alpha", "train", walks[best], count, classes),
    ]
    if config.pseudo_labels.crf is not None:
        rows.append(score_row("walk + CRF", "train", score_labels(work / PLAIN, masked, labels), count, classes))
    kept = {sample.id for sample in labelled(work, dataset).samples}
    used = [pair for pair in masked if pair[0].id in kept]
    for name, pairs in {"pseudo labels": used, "pseudo labels, surest 90 %": surest(context, used)}.items():
        if pairs:  # photos with a mask may all be left out
            rows.append(score_row(name, "train", score_labels(work / "pseudo_labels", pairs, labels), len(pairs), classes))
    curves = {
        "CAM": [[float(t), float(value)] for t, value in zip(sweep.thresholds, sweep.miou(), strict=True)],
        "walk": sorted([threshold_of_alpha(a), matrix.miou()] for a, matrix in walks.items()),
    }
    facts = {"cam_best_threshold": threshold, "cam_best_alpha": alpha, "walk_alpha": walk_alpha, "walk_best_alpha": best}
    facts |= audit_scores(context, masked)
    return rows, curves, facts


def _validation_rows(context: Context, dataset, threshold: float) -> list[ScoreRow]:
    """CAMs and walk of the evaluation photos, at the threshold of the training photos' CAMs."""
    masked = with_masks(dataset)
    if not masked or not context.config.evaluate.cams:
        return []
    matrices = score_val_cams(context, dataset, masked, threshold)
    return [score_row(name, "val", matrix, len(masked), dataset.classes) for name, matrix in matrices.items()]


def _classifier_map(context: Context, dataset) -> float:
    """Mean average precision of the classifier on the evaluation photos."""
    logits = classifier_logits(context)
    precision = AveragePrecision(dataset.num_classes)
    for sample, tags in zip(dataset.samples, dataset.tag_matrix(), strict=True):
        precision.update(logits(dataset.read(sample))[None], tags[None])
    return precision.mean()


def run(context: Context) -> dict[str, float]:
    rows, curves, metrics = _training_rows(context, context.scored_dataset("train"))
    validation = context.scored_dataset("val")
    if validation is not None and validation.samples:
        # Without training masks: the threshold that the walk's background stands for.
        threshold = metrics.get("cam_best_threshold", threshold_of_alpha(used_alphas(context.work).walk))
        rows += _validation_rows(context, validation, threshold)
        metrics["classifier_map"] = _classifier_map(context, validation)
    path = context.folder(NAME) / CURVES
    write_json(path, curves)
    context.run.artifact(path)
    return metrics | save_table(context, NAME, rows)


STAGE = Stage(
    name=NAME,
    run=run,
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
        "tfwsss_pipelines.stages.cams",
        "tfwsss_pipelines.stages.pseudo_labels",
        "tfwsss.cam",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.metrics",
        "tfwsss.pseudolabel",
        "tfwsss.tag_consistency",
        "tfwsss.label_audit",
        "tfwsss.background",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
)
