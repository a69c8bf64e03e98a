"""Scores of label maps against masks, and the table of a stage that makes them."""

import re

import numpy as np

from tfwsss.errors import DataError
from tfwsss.metrics import ConfusionMatrix
from tfwsss.report.table import ScoreRow, ScoreTable
from tfwsss.storage.artifacts import IGNORE, load_label
from tfwsss.storage.atomic import read_json, write_json, write_text

from ..engine.context import Context

TABLE = "table.json"


def with_masks(dataset) -> list:
    """(sample, mask) of those photos of a split that have a mask."""
    return [(sample, mask) for sample in dataset.samples if (mask := dataset.mask(sample)) is not None]


def score_labels(folder, masked, labels: int) -> ConfusionMatrix:
    """Label maps of a folder against the masks of `with_masks`; pixels that a label map ignores are not scored."""
    matrix = ConfusionMatrix(labels)
    for sample, mask in masked:
        label = load_label(folder, sample.id)
        matrix.update(np.where(label == IGNORE, IGNORE, mask), label)
    return matrix


def score_row(name: str, split: str, matrix: ConfusionMatrix, images: int, classes) -> ScoreRow:
    """One row of a table."""
    labels = ("background", *classes)
    per_class = {label: float(value) for label, value in zip(labels, matrix.iou(), strict=True)}
    return ScoreRow(name=name, split=split, images=images, miou=matrix.miou(), per_class=per_class)


def _metric_name(name: str) -> str:
    """A class name as part of an MLflow metric name, which allows few characters."""
    return re.sub(r"[^\w .-]", "_", name)


def save_table(context: Context, stage: str, rows) -> dict[str, float]:
    """Write a stage's table.json and table.txt; returns its scores as metrics."""
    folder, table = context.folder(stage), ScoreTable(tuple(rows))
    write_json(folder / TABLE, table.to_dict())
    write_text(folder / "table.txt", table.text() + "\n")
    for name in (TABLE, "table.txt"):
        context.run.artifact(folder / name)
    metrics = {}
    for row in rows:
        key = re.sub("[^a-z0-9]+", "_", row.name.lower())
        metrics[f"miou/{row.split}/{key}"] = row.miou
        for name, value in row.per_class.items():
            if not np.isnan(value):
                metrics[f"iou/{row.split}/{key}/{_metric_name(name)}"] = value
    return metrics


def load_table(work, stage: str = "evaluate") -> ScoreTable:
    """The table of a finished stage.

    Raises:
        DataError: the stage has not finished in this work directory, or the file is damaged.
    """
    path = work / stage / TABLE
    table = read_json(path)
    if table is None:
        raise DataError(f"{path}: no such file; has stage {stage} finished there?")
    return ScoreTable.from_dict(table)
