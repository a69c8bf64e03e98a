"""What a format of data sets is: how it is read, and how `tfwsss init` recognises it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfwsss.data.dataset import Dataset

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Found:
    """A data set that a folder or file seems to be.

    Attributes:
        data: fields of the section `data`, `format` first; paths may be relative to the current folder, as in a configuration.
        says: what was seen, one line each.
        claims: files and folders that it explains; of two findings, one whose claims the other explains, too, is none.
    """

    data: dict[str, Any]
    says: tuple[str, ...] = ()
    claims: frozenset[Path] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as in `data.format`.
        read: one split of a data set; gets the section `data`, the split, and the run's folder, below which it may write.
        recognise: what a folder or file is in this format, nothing where it is none; the second argument is the folder of the
            photos where that is known. It looks at names and beginnings of files, not at photos. Raises DataError where it is
            of this format and cannot be used.
    """

    name: str
    read: Callable[[Any, Split, Path], Dataset | None]
    recognise: Callable[[Path, Path | None], list[Found]] = lambda path, photos: []


def place_of(file: Path, photos: Path | None) -> dict[str, Any]:
    """Fields of a section with one annotation file: `root`, the folder of the photos, and `train_file`, relative to it."""
    root = file.parent if photos is None else photos
    return {"root": root, "train_file": file.name if photos is None else str(file.absolute())}
