"""Photos that killed the process that worked on them again and again: `quarantine.csv` in the folder of the stage that lost them.

All later stages, and the stage itself, go on without them. They are tried again when the file is removed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfwsss.errors import DataError
from tfwsss.storage.atomic import write_text

from .terminal import console

FILE = "quarantine.csv"
DEATHS = 3  # of processes that had nothing but the same photo to do


class Lost(NamedTuple):
    """A photo's id, its file, and what happened."""

    id: str
    photo: str
    reason: str


def place(photo: Path) -> str:
    """A photo's file as the list names it, which is UTF-8."""
    return os.fsencode(photo).decode("utf-8", "backslashreplace")


class PhotosLost(Exception):
    """All photos of a call are done but these."""

    def __init__(self, photos: Iterable[Lost]):
        self.photos = tuple(photos)
        super().__init__("; ".join(f"{photo.id}: {photo.reason}" for photo in self.photos))


def read_quarantine(folder: Path) -> list[Lost]:
    """The photos that a stage has lost, [] without a file.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [Lost(row["id"], row["photo"], row["reason"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: damaged, or not written by tfwsss: {error}") from None


def show_lost(photos: Iterable[Lost]) -> None:
    """Name them to the user."""
    for photo in photos:
        console.print(f"  {photo.id}: left out, {photo.reason}", style="yellow", markup=False)


def add_to_quarantine(folder: Path, photos: Iterable[Lost]) -> Path:
    """Add to the file of a stage. Returns it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Lost._fields)
    writer.writerows([*read_quarantine(folder), *photos])
    write_text(folder / FILE, text.getvalue())
    return folder / FILE
