"""Stage `label_audit`: how far every label can be trusted, without masks: a list for the person who has an hour to check labels.

label_audit/classes.csv        every tagged class of every photo, the most doubtful first: photo, class, confidence, share, reason
label_audit/photos.csv         every photo with a tag, the most doubtful first: photo, confidence (mean over its classes), classes
label_audit/pixels/<id>.png    confidence of every pixel, grey, white is sure
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfwsss.data.dataset import Sample
from tfwsss.errors import DataError
from tfwsss.label_audit import Doubt, audit_photo, pixel_confidence
from tfwsss.pseudolabel import from_grid
from tfwsss.storage.artifacts import keep_grey, load_label, load_walk
from tfwsss.storage.atomic import write_text
from tfwsss.tag_consistency import normalized

from ..engine.context import Context
from ..engine.progress import console
from ..engine.stage import Stage
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photos import each_photo
from .label_source import NORMALISED, PLAIN

NAME = "label_audit"
CLASSES, PHOTOS = f"{NAME}/classes.csv", f"{NAME}/photos.csv"


class PhotoDoubt(NamedTuple):
    """A photo's mean confidence over its tagged classes, and the names of those."""

    photo: str
    confidence: float
    classes: str


def audit_image(work: Path, image_id: str, tags: tuple[int, ...], smallest_share: float) -> list[Doubt]:
    """One photo's doubts; saves its pixels' confidence."""
    plain, normalised = (load_label(work / folder, image_id) for folder in (PLAIN, NORMALISED))
    _, walked = load_walk(work / "walk", image_id)
    scores = from_grid(normalized(walked), *plain.shape)
    keep_grey(work / NAME / "pixels", image_id, pixel_confidence(plain, normalised, scores))
    return audit_photo(image_id, tags, plain, normalised, scores, smallest_share)


def _table(heading: tuple[str, ...], rows) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(heading)
    writer.writerows(rows)
    return text.getvalue()


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; has stage {NAME} finished there?") from None


def read_photos(work: Path) -> list[PhotoDoubt]:
    """The photos as the stage has sorted them.

    Raises:
        DataError: the stage has not finished there.
    """
    return [PhotoDoubt(row["photo"], float(row["confidence"]), row["classes"]) for row in _read(work / PHOTOS)]


def read_doubts(work: Path) -> list[tuple[str, str, str]]:
    """(photo, class name, reason) of every tagged class, the most doubtful first.

    Raises:
        DataError: the stage has not finished there.
    """
    return [(row["photo"], row["class"], row["reason"]) for row in _read(work / CLASSES)]


def _audit(context: Context, timing: Timing) -> Work[Sample, Any, Any, list[Doubt]]:
    share = context.config.pseudo_labels.smallest_share
    return Work(lambda sample: sample, lambda sample, _: audit_image(context.work, sample.id, sample.tags, share))


def run(context: Context) -> dict[str, float]:
    work, dataset = context.work, context.dataset("train")
    context.folder(f"{NAME}/pixels")
    doubts, photos = [], []
    for found in each_photo(context, NAME, dataset.samples, _audit):
        if found:
            names = "|".join(dataset.classes[doubt.label_class] for doubt in found)
            photos.append(PhotoDoubt(found[0].photo, float(np.mean([doubt.confidence for doubt in found])), names))
        doubts += found
    doubts.sort(key=lambda doubt: (doubt.confidence, doubt.photo))
    photos.sort(key=lambda photo: (photo.confidence, photo.photo))
    rows = [(doubt.photo, dataset.classes[doubt.label_class], f"{doubt.confidence:.4f}", f"{doubt.share:.4f}", doubt.reason) for doubt in doubts]
    write_text(work / CLASSES, _table(("photo", "class", "confidence", "share", "reason"), rows))
    write_text(work / PHOTOS, _table(PhotoDoubt._fields, [(photo._asdict() | {"confidence": f"{photo.confidence:.4f}"}).values() for photo in photos]))
    for name in (CLASSES, PHOTOS):
        context.run.artifact(work / name)
    if not photos:
        return {"photos": 0}
    console.print(f"  most doubtful: {', '.join(photo.photo for photo in photos[:3])}; all in {work / PHOTOS}", markup=False)
    return {"photos": len(photos), "mean_confidence": float(np.mean([photo.confidence for photo in photos]))}


STAGE = Stage(
    name=NAME,
    run=run,
    labelling=True,
    needs=("pseudo_labels",),
    data=("train",),
    settings=("pseudo_labels.smallest_share",),
    code=("tfwsss_pipelines.stages.label_audit", "tfwsss.label_audit", "tfwsss.tag_consistency", "tfwsss.pseudolabel", "tfwsss.interpolation", "tfwsss.storage.artifacts"),
)
