"""Ultralytics' polygons for instance segmentation: a text file for each photo, a line for each connected part of a class.

    images/train/NAME   images/val/NAME   copies of the photos
    labels/train/ID.txt labels/val/ID.txt class x y x y ..., coordinates in parts of the width and the height
    data.yaml                             paths and class names, from 0, without background

The form has no place for ignored pixels: they become background. Who needs them takes `tfwsss.exchange.folders`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfwsss.exchange.folders import write_splits
from tfwsss.exchange.labelled import IGNORED, LabelledPhoto, Tool
from tfwsss.exchange.outlines import polygons_of


def lines_of(photo: LabelledPhoto, classes: tuple[str, ...]) -> list[str]:
    """The lines of one photo's text file."""
    height, width = photo.label.shape
    lines = []
    for name, mask, _ in photo.regions(classes):
        if name != IGNORED:
            for polygon in polygons_of(mask):
                points = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in polygon)
                lines.append(f"{classes.index(name)} {points}")
    return lines


def write(photos: Iterable[LabelledPhoto], classes: tuple[str, ...], path: Path) -> None:
    """Write the folder; errors as `tfwsss.exchange.folders.write_splits`."""

    def label(photo: LabelledPhoto, folder: Path) -> None:
        file = folder / "labels" / photo.split / f"{photo.id}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines_of(photo, classes)), encoding="utf-8")

    write_splits(photos, path, label, dict(enumerate(classes)))


TOOL = Tool("yolo", "labels.yolo", write, photos=True)
