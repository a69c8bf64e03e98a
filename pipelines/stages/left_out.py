"""pseudo_labels/left_out.csv: training photos whose label says nothing, with the reason; no segmenter is trained on them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from tfwsss.data import Dataset
from tfwsss.errors import DataError
from tfwsss.storage.atomic import write_text

FILE = "pseudo_labels/left_out.csv"


class LeftOut(NamedTuple):
    """A photo and why it is left out."""

    id: str
    reason: str


def write_left_out(work: Path, photos: list[LeftOut]) -> Path:
    """Write the list, with its heading alone when there is none. Returns the file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(LeftOut._fields)
    writer.writerows(photos)
    write_text(work / FILE, text.getvalue())
    return work / FILE


def read_left_out(work: Path) -> list[LeftOut]:
    """The list that the stage `pseudo_labels` has written.

    Raises:
        DataError: there is none.
    """
    try:
        with (work / FILE).open(encoding="utf-8", newline="") as file:
            return [LeftOut(row["id"], row["reason"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise DataError(f"{work / FILE}: no such file; has stage pseudo_labels finished there?") from None


def labelled(work: Path, dataset: Dataset, strong: frozenset[str] = frozenset()) -> Dataset:
    """The photos that are not left out, or need no label because they have a mask (`strong`).

    Raises:
        DataError: all are, or there is no list.
    """
    left_out = {photo.id for photo in read_left_out(work)} - strong
    kept = dataset.subset(sample.id for sample in dataset.samples if sample.id not in left_out)
    if not kept.samples:
        raise DataError(
            f"a tagged class has vanished from the labels of all {len(dataset.samples)} training photos, see {work / FILE}; "
            "the classifier has found nothing to go by"
        )
    return kept
