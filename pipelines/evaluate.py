"""Stage `evaluate`: every intermediate result and the segmenter against the masks, where there are masks.

Label maps are kept below evaluate/, so that a killed run goes on and every score can be recomputed from files.
Masks are read here and in the report, nowhere else.
"""

import re

import numpy as np

from pipelines.affinity_labels import used_alphas
from pipelines.context import Context
from pipelines.progress import console, progress_bar
from pipelines.stage import Stage
from pipelines.val_cams import classifier_logits, score_val_cams
from tfwsss.artifacts import artifact_path, load_cam, load_label, load_walk, save_label
from tfwsss.atomic import read_json, write_json, write_text
from tfwsss.background import alpha_of_threshold, threshold_of_alpha
from tfwsss.config import Crf
from tfwsss.crf import crf_scores, dense_crf
from tfwsss.data.image import read_image
from tfwsss.errors import DataError
from tfwsss.metrics import AveragePrecision, ConfusionMatrix, ThresholdSweep
from tfwsss.processes import map_in_processes, worker_count
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.report.table import ScoreRow, ScoreTable
from tfwsss.strict_zip import strict_zip

TABLE = "table.json"
CURVES = "curves.json"
THRESHOLDS = tuple(np.round(np.arange(0.02, 0.96, 0.02), 2))

CAM_CRF, SINGLE, MULTI, MULTI_CRF = "cam_crf", "segmenter", "segmenter_multiscale", "segmenter_multiscale_crf"


# ------------------------------------------------------------------------------------- work of the processes


def cam_crf_image(image_path, image_id: str, cams, folder, alpha: float, crf: Crf, normalize: bool, max_megapixels: float) -> None:
    """Label of one photo's CAMs after a dense CRF."""
    classes, cam = load_cam(cams, image_id)
    scores = crf_scores(classes, cam, alpha, read_image(image_path, max_megapixels), crf, normalize=normalize)
    save_label(folder, image_id, label_of_scores(classes, scores))


def segmenter_crf_image(image, image_id: str, scores, folder, crf: Crf) -> None:
    """Label of the segmenter's scores [H, W, C+1] after a dense CRF."""
    save_label(folder, image_id, dense_crf(image, scores, **crf.model_dump()).argmax(axis=2))


# ----------------------------------------------------------------------------------------------------- table


def _row(name: str, split: str, matrix: ConfusionMatrix, images: int, classes) -> ScoreRow:
    labels = ("background", *classes)
    per_class = {label: float(value) for label, value in strict_zip(labels, matrix.iou())}
    return ScoreRow(name=name, split=split, images=images, miou=matrix.miou(), per_class=per_class)


def _masked(dataset) -> list:
    return [(sample, mask) for sample in dataset.samples if (mask := dataset.mask(sample)) is not None]


def _score_labels(folder, masked, labels: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(labels)
    for sample, mask in masked:
        matrix.update(mask, load_label(folder, sample.id))
    return matrix


def _training_rows(context: Context, dataset) -> tuple[list[ScoreRow], dict, dict]:
    """CAM, CAM+CRF, walk and walk+CRF on the training photos that have masks."""
    config, work = context.config, context.work
    masked = _masked(dataset)
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
    used = next(iter(walks))
    best = max(walks, key=lambda alpha: walks[alpha].miou())
    alpha = alpha_of_threshold(threshold)

    folder = context.folder(f"evaluate/{CAM_CRF}")
    todo = [sample for sample, _ in masked if not artifact_path(folder, sample.id, ".png").is_file()]
    normalize = config.switches.crf_scores == "corrected"
    arguments = (
        (sample.image, sample.id, work / "cams", folder, alpha, config.affinity_labels.crf, normalize, dataset.max_megapixels)
        for sample in todo
    )
    with progress_bar("CAM + CRF", len(todo), config.runtime.progress) as bar:
        for _ in map_in_processes(cam_crf_image, arguments, worker_count(config.runtime.workers)):
            bar.advance()

    count = len(masked)
    final = "walk + CRF" if config.pseudo_labels.crf is not None else "pseudo labels"
    rows = [
        _row("CAM", "train", best_cam, count, classes),
        _row("CAM + CRF", "train", _score_labels(folder, masked, labels), count, classes),
        _row("walk", "train", walks[used], count, classes),
        _row("walk, best alpha", "train", walks[best], count, classes),
        _row(final, "train", _score_labels(work / "pseudo_labels", masked, labels), count, classes),
    ]
    curves = {
        "CAM": [[float(t), float(value)] for t, value in strict_zip(sweep.thresholds, sweep.miou())],
        "walk": sorted([threshold_of_alpha(a), matrix.miou()] for a, matrix in walks.items()),
    }
    facts = {"cam_best_threshold": threshold, "cam_best_alpha": alpha, "walk_alpha": used, "walk_best_alpha": best}
    return rows, curves, facts


def _predict(context: Context, dataset) -> dict[str, str]:
    """Label maps of the segmenter on every evaluation photo. Returns {row name: folder name}."""
    import tensorflow as tf

    from pipelines.train import weights_path
    from tfwsss.export.inference import Inference
    from tfwsss.models import normalization
    from tfwsss.training import make_deterministic
    from tfwsss.weights import load_model

    config, settings = context.config, context.config.evaluate
    make_deterministic(config.seed)
    kinds = {"segmenter": SINGLE, "segmenter, multi-scale": MULTI}
    if settings.crf is not None:
        kinds["segmenter, multi-scale + CRF"] = MULTI_CRF
    folders = {kind: context.folder(f"evaluate/{kind}") for kind in kinds.values()}
    last = folders[list(kinds.values())[-1]]
    todo = [sample for sample in dataset.samples if not artifact_path(last, sample.id, ".png").is_file()]
    if not todo:
        return kinds
    model = load_model(weights_path(context.work, "segmenter"))
    normalize = normalization(config.segmenter.model.backbone)
    signature = [tf.TensorSpec([1, None, None, 3], tf.uint8)]
    single = tf.function(Inference(model, normalize).scores, input_signature=signature, autograph=False)
    multi = tf.function(Inference(model, normalize, scales=settings.scales, flip=settings.flip).scores, input_signature=signature, autograph=False)

    def arguments():
        for sample in todo:
            image = dataset.read(sample)
            if not artifact_path(folders[SINGLE], sample.id, ".png").is_file():
                save_label(folders[SINGLE], sample.id, single(image[None])[0].numpy().argmax(axis=2))
            scores = multi(image[None])[0].numpy()  # also when its label is there: the CRF needs the scores
            if not artifact_path(folders[MULTI], sample.id, ".png").is_file():
                save_label(folders[MULTI], sample.id, scores.argmax(axis=2))
            yield image, sample.id, scores, last, settings.crf

    with progress_bar("segmenter on the evaluation photos", len(todo), config.runtime.progress) as bar:
        if settings.crf is None:
            for _ in arguments():
                bar.advance()
        else:
            for _ in map_in_processes(segmenter_crf_image, arguments(), worker_count(config.runtime.workers)):
                bar.advance()
    return kinds


def _validation_rows(context: Context, dataset, threshold: float) -> list[ScoreRow]:
    """CAM and walk if wanted, then the segmenter; `threshold` is the CAMs'."""
    kinds = _predict(context, dataset)
    masked = _masked(dataset)
    if not masked:
        console.print("  no masks for the evaluation photos: the segmenter is not scored")
        return []
    labels = dataset.num_classes + 1
    rows = []
    if context.config.evaluate.cams:
        matrices = score_val_cams(context, dataset, masked, threshold)
        rows = [_row(name, "val", matrix, len(masked), dataset.classes) for name, matrix in matrices.items()]
    return rows + [
        _row(name, "val", _score_labels(context.work / "evaluate" / kind, masked, labels), len(masked), dataset.classes)
        for name, kind in kinds.items()
    ]


def _classifier_map(context: Context, dataset) -> float:
    """Mean average precision of the classifier on the evaluation photos."""
    logits = classifier_logits(context)
    precision = AveragePrecision(dataset.num_classes)
    for sample, tags in strict_zip(dataset.samples, dataset.tag_matrix()):
        precision.update(logits(dataset.read(sample))[None], tags[None])
    return precision.mean()


def _metric_name(name: str) -> str:
    """A class name as part of an MLflow metric name, which allows few characters."""
    return re.sub(r"[^\w .-]", "_", name)


def load_table(work) -> ScoreTable:
    """The table of a finished `evaluate` stage.

    Raises:
        DataError: the stage has not finished in this work directory, or the file is damaged.
    """
    path = work / "evaluate" / TABLE
    table = read_json(path)
    if table is None:
        raise DataError(f"{path}: no such file; has stage evaluate finished there?")
    return ScoreTable.from_dict(table)


def run(context: Context) -> dict[str, float]:
    folder = context.folder("evaluate")
    rows, curves, metrics = _training_rows(context, context.scored_dataset("train"))
    validation = context.scored_dataset("val")
    if validation is not None and validation.samples:
        # Without training masks: the threshold that the walk's background stands for.
        threshold = metrics.get("cam_best_threshold", threshold_of_alpha(used_alphas(context.work).walk))
        rows += _validation_rows(context, validation, threshold)
        metrics["classifier_map"] = _classifier_map(context, validation)
    table = ScoreTable(tuple(rows))
    write_json(folder / TABLE, table.to_dict())
    write_json(folder / CURVES, curves)
    write_text(folder / "table.txt", table.text() + "\n")
    for name in (TABLE, CURVES, "table.txt"):
        context.run.artifact(folder / name)
    for row in rows:
        key = re.sub("[^a-z0-9]+", "_", row.name.lower())
        metrics[f"miou/{row.split}/{key}"] = row.miou
        for name, value in row.per_class.items():
            if not np.isnan(value):
                metrics[f"iou/{row.split}/{key}/{_metric_name(name)}"] = value
    return metrics


STAGE = Stage(
    name="evaluate",
    run=run,
    tensorflow=True,
    needs=("classifier", "cams", "affinity_labels", "pseudo_labels", "segmenter"),
    data=("train", "val", "train_masks", "val_masks"),
    settings=("evaluate", "affinity_labels.crf", "switches.crf_scores", "switches.val_tags"),
    code=(
        "pipelines.evaluate",
        "pipelines.val_cams",
        "pipelines.cams",
        "pipelines.pseudo_labels",
        "tfwsss.cam",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.metrics",
        "tfwsss.export.inference",
        "tfwsss.pseudolabel",
        "tfwsss.background",
        "tfwsss.crf",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.artifacts",
    ),
)
