"""One image with all its intermediate results, and the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfwsss.errors import DataError
from tfwsss.report.panels import MAX_SIDE, cam_panel, label_panel, photo_panel


@dataclass(frozen=True)
class ImageRow:
    """What is known of one image. Label maps hold 0 background, k+1 class k, 255 ignore, at any resolution.

    Attributes:
        id: the sample's id.
        tags: class indices without background.
        photo: [H, W, 3] uint8.
        cam: (classes int [K], maps [K, h, w] in 0..1), or None.
        affinity_label, walk, pseudo_label, prediction, mask: [h, w] integer label maps, or None where there is none.
        note: what the page says about the image, below its tags.
    """

    id: str
    tags: tuple[int, ...]
    photo: np.ndarray
    cam: tuple[np.ndarray, np.ndarray] | None = None
    affinity_label: np.ndarray | None = None
    walk: np.ndarray | None = None
    pseudo_label: np.ndarray | None = None
    prediction: np.ndarray | None = None
    mask: np.ndarray | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One step: the field of `ImageRow`, its heading, and (row, max_side) -> [h, w, 3] uint8 or None."""

    field: str
    heading: str
    draw: Callable[[ImageRow, int], np.ndarray | None]


def _label_column(field: str, heading: str) -> Column:
    def draw(row: ImageRow, max_side: int) -> np.ndarray | None:
        label = getattr(row, field)
        return None if label is None else label_panel(row.photo, label, max_side)

    return Column(field, heading, draw)


COLUMNS = (
    Column("photo", "photo", lambda row, side: photo_panel(row.photo, side)),
    Column("cam", "CAM", lambda row, side: None if row.cam is None else cam_panel(row.photo, *row.cam, side)),
    _label_column("affinity_label", "affinity label"),
    _label_column("walk", "walk"),
    _label_column("pseudo_label", "final label"),
    _label_column("prediction", "prediction"),
    _label_column("mask", "mask"),
)


def used_columns(rows) -> list[Column]:
    """The columns that at least one of the rows fills."""
    return [column for column in COLUMNS if any(getattr(row, column.field) is not None for row in rows)]


def draw_row(row: ImageRow, columns, max_side: int = MAX_SIDE) -> list[np.ndarray | None]:
    """One panel for each column, None where the row has nothing to show.

    Raises:
        DataError: an array does not have the documented shape or type; the message names the image and the step.
    """
    panels = []
    for column in columns:
        try:
            panels.append(column.draw(row, max_side))
        except DataError as error:
            raise DataError(f"image {row.id!r}, {column.heading}: {error}") from None
    return panels
