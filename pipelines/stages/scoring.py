"""Scores of label maps against masks, and the table of a stage that makes them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfwsss.data import Split
from tfwsss.data.dataset import Sample
from tfwsss.errors import DataError
from tfwsss.metrics import ConfusionMatrix
from tfwsss.report.table import ScoreRow, ScoreTable
from tfwsss.storage.artifacts import IGNORE, load_label
from tfwsss.storage.atomic import read_json, write_json, write_text

from ..engine.context import Context
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import each_photo

TABLE = "table.json"
LONGEST_NAME = 120  # characters of a class name in MLflow


def label_matrix(folder: Path, sample: Sample, mask: np.ndarray, labels: int) -> ConfusionMatrix:
    """The label map of a folder against a photo's mask; pixels that the label map ignores are not scored."""
    label = load_label(folder, sample.id)
    return ConfusionMatrix(labels).update(np.where(label == IGNORE, IGNORE, mask), label)


def score_folders(context: Context, title: str, split: Split, samples: Sequence[Sample], folders: dict[str, Path]) -> tuple[dict[str, ConfusionMatrix], int]:
    """Label maps against the masks of those photos that have one.

    Args:
        context: of the stage.
        title: of the progress bar.
        split, samples: the photos.
        folders: {name: folder of label maps}.

    Returns:
        {name: matrix}, and how many photos have a mask.
    """
    dataset, count = context.scored_dataset(split), 0
    assert dataset is not None
    total = {name: ConfusionMatrix(dataset.num_classes + 1) for name in folders}
    for found in each_photo(context, title, samples, partial(_matrices, split=split, folders=folders)):
        if found is not None:
            count += 1
            for name, matrix in found.items():
                total[name].merge(matrix)
    return total, count


def _matrices(context: Context, timing: Timing, split: Split, folders: dict[str, Path]) -> Work[Sample, Any, Any, dict[str, ConfusionMatrix] | None]:
    dataset = context.scored_dataset(split)
    assert dataset is not None
    labels = dataset.num_classes + 1

    def finish(sample: Sample, mask: np.ndarray | None) -> dict[str, ConfusionMatrix] | None:
        return None if mask is None else {name: label_matrix(folder, sample, mask, labels) for name, folder in folders.items()}

    return Work(dataset.mask, finish)


def score_row(name: str, split: str, matrix: ConfusionMatrix, images: int, classes) -> ScoreRow:
    """One row of a table."""
    labels = ("background", *classes)
    per_class = {label: float(value) for label, value in zip(labels, matrix.iou(), strict=True)}
    return ScoreRow(name=name, split=split, images=images, miou=matrix.miou(), per_class=per_class)


def metric_names(classes: Iterable[str]) -> dict[str, str]:
    """Class names as parts of MLflow metric names, which allow few characters and 250 of them; those that would be one are numbered."""
    short = {name: re.sub(r"[^\w .-]", "_", name)[:LONGEST_NAME].strip(" .") or "_" for name in classes}
    counts = Counter(short.values())
    return {name: text if counts[text] == 1 else f"{text}_{number}" for number, (name, text) in enumerate(short.items())}


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
        names = metric_names(row.per_class)
        metrics |= {f"iou/{row.split}/{key}/{names[name]}": value for name, value in row.per_class.items() if not np.isnan(value)}
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
