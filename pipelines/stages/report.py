"""Stage `report`: one HTML page with pictures of every step, curves and scores, and a strip of pictures for a README."""

from datetime import UTC, datetime

import numpy as np
import yaml

from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.report.page import ReportData, build_report
from tfwsss.report.rows import ImageRow
from tfwsss.report.strip import strip
from tfwsss.storage.artifacts import load_label, load_walk
from tfwsss.storage.atomic import read_json

from ..engine.context import Context
from ..engine.stage import Stage
from ..labelling.saved_cams import SavedCams
from .affinity_labels import used_alphas
from .evaluate import SINGLE
from .label_audit import read_doubts, read_photos
from .label_scores import CURVES
from .scoring import load_table

PAGE, STRIP = "index.html", "strip.png"
STRIP_ROWS = 4


def training_row(context: Context, dataset, sample, note: str = "") -> ImageRow:
    """Everything the pipeline made of one training photo; the mask alone where the segmenter learnt from masks."""
    photo, work = dataset.read(sample), context.work
    if context.config.segmenter.labels == "masks":
        return ImageRow(id=sample.id, tags=sample.tags, photo=photo, mask=dataset.strong_mask(sample))
    names, cam = SavedCams(work).load(work / "cams", sample.id)
    classes, walked = load_walk(work / "walk", sample.id)
    return ImageRow(
        id=sample.id,
        tags=sample.tags,
        photo=photo,
        cam=(names, cam),
        affinity_label=load_label(work / "affinity_labels", sample.id),
        walk=label_of_scores(classes, from_grid(walked, *photo.shape[:2])),
        pseudo_label=load_label(work / "pseudo_labels", sample.id),
        mask=dataset.mask(sample),
        note=note,
    )


def doubtful_rows(context: Context, dataset) -> list[ImageRow]:
    """The photos with the most doubtful labels, each with what speaks against it."""
    reasons: dict[str, list[str]] = {}
    for doubted, name, reason in read_doubts(context.work):
        reasons.setdefault(doubted, []).append(f"{name} {reason}")
    samples = {sample.id: sample for sample in dataset.samples}
    rows = []
    for photo in read_photos(context.work)[: context.config.report.images]:
        note = f"confidence {photo.confidence:.0%}: {'; '.join(reasons[photo.photo])}"
        rows.append(training_row(context, dataset, samples[photo.photo], note))
    return rows


def validation_row(context: Context, dataset, sample) -> ImageRow:
    """The segmenter's result on one evaluation photo."""
    prediction = load_label(context.work / "evaluate" / SINGLE, sample.id)
    return ImageRow(id=sample.id, tags=sample.tags, photo=dataset.read(sample), prediction=prediction, mask=dataset.mask(sample))


def _spread(samples, count: int):
    """`count` of the samples, or rows, evenly spaced, so that sorted lists show more than their first class."""
    if not samples or not count:
        return []
    positions = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    return [samples[position] for position in positions]


def _facts(context: Context, train, validation) -> list[tuple[str, str]]:
    config = context.config
    facts = [
        ("training photos", f"{len(train.samples):,}"),
        ("evaluation photos", f"{len(validation.samples):,}" if validation else "none"),
        ("classes", ", ".join(train.classes)),
        ("seed", str(config.seed)),
    ]
    if config.segmenter.labels == "masks":
        return [*facts, ("backbone", config.segmenter.model.backbone), ("labels", f"masks of {config.data.strong_masks}, drawn by a person")]
    alphas = used_alphas(context.work)
    return [
        *facts,
        ("backbones", f"classifier {config.classifier.model.backbone}, AffinityNet {config.affinitynet.model.backbone}, segmenter {config.segmenter.model.backbone}"),
        ("background exponents", f"low {alphas.low:.3g}, walk {alphas.walk:.3g}, high {alphas.high:.3g}"),
    ]


def run(context: Context) -> dict[str, float]:
    config, work = context.config, context.work
    train, validation = context.scored_dataset("train"), context.scored_dataset("val")
    rows = [training_row(context, train, sample) for sample in _spread(train.samples, config.report.images)]
    validation_rows = []
    if validation:
        validation_rows = [validation_row(context, validation, sample) for sample in _spread(validation.samples, config.report.images)]
    doubtful: list[ImageRow] = []
    trained: tuple[str, ...] = ("segmenter",)
    curves: dict = {}
    if config.segmenter.labels == "pseudo":
        doubtful, trained = doubtful_rows(context, train), ("classifier", "affinitynet", "segmenter")
        curves = read_json(work / "label_scores" / CURVES)
    folder = context.folder("report")
    page = folder / PAGE
    build_report(
        page,
        ReportData(
            title=config.name,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            classes=train.classes,
            config_yaml=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False),
            table=load_table(work),
            histories={stage: read_json(work / stage / "history.json") for stage in trained},
            curves={name: [tuple(point) for point in curve] for name, curve in curves.items()},
            training_rows=rows,
            doubtful_rows=doubtful,
            validation_rows=validation_rows,
            facts=_facts(context, train, validation),
        ),
    )
    made = [PAGE]
    if rows:
        strip(_spread(rows, STRIP_ROWS), folder / STRIP)
        made.append(STRIP)
    if config.report.photos_to_tracking or not rows:
        for name in made:
            context.run.artifact(folder / name)
    return {"images": len(rows) + len(doubtful) + len(validation_rows)}


STAGE = Stage(
    name="report",
    run=run,
    needs=("cams", "affinity_labels", "pseudo_labels", "label_audit", "label_scores", "segmenter", "evaluate"),
    data=("train", "val", "train_masks", "val_masks"),
    settings=("report", "name"),
    code=("tfwsss_pipelines.stages.report", "tfwsss.report", "tfwsss.pseudolabel"),
)
