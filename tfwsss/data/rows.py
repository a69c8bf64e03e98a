"""What an annotation file says, photo by photo, before classes have numbers: what every reader of tags makes of its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfwsss.data.names import normal, photo_id
from tfwsss.errors import DataError


@dataclass(frozen=True)
class Row:
    """One photo.

    Attributes:
        image: its path relative to the data set's folder.
        tags: of the classes that are on it; in Unicode form C, sorted, without repeats.
        unknown: of the classes that nobody knows of whether they are.
        absent: of the classes that somebody has looked for and not found. What a class is that is in none of the three, the
            configuration says (`data.unlisted`).
        group: photos of one group are never on both sides of a split; "": of none.
        place: where it stands in the file, such as "line 3", for messages.
        written: the tags as they stand in the file.
    """

    image: Path
    tags: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    group: str = ""
    place: str = ""
    written: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The path without suffix, "/" between folders."""
        return photo_id(self.image)

    def moved(self, folder: Path) -> Row:
        """The same, with the path below another folder."""
        return dataclasses.replace(self, image=folder / self.image)

    @classmethod
    def of(cls, image: Path, tags: Iterable[str], unknown: Iterable[str] = (), absent: Iterable[str] = (), *, group: str = "", place: str = "") -> Row:
        """A row of tags as a file has them: blanks at their ends go, and so do empty ones.

        Raises:
            DataError: a tag is given in two of the three ways; it names the tag, without the file.
        """
        written = tuple(sorted({tag.strip() for tag in tags} - {""}))
        present, doubtful, missing = (set(normal(tag.strip()) for tag in some) - {""} for some in (written, unknown, absent))
        for one, other, words in ((present, doubtful, "present and as unknown"), (present, missing, "present and as absent"), (doubtful, missing, "unknown and as absent")):
            if both := sorted(one & other):
                raise DataError(f"{both[0]!r} is given as {words}")
        return cls(image, tuple(sorted(present)), tuple(sorted(doubtful)), tuple(sorted(missing)), group.strip(), place, written)


@dataclass(frozen=True)
class Annotations:
    """One file, or one split of it.

    Attributes:
        path: of the file, or of the folder whose names are the tags.
        rows: the photos, no two of the same id.
        classes: names of all classes in the file's own order, where it has one; may name some that no photo has.
        remarks: what was taken otherwise than it stands there, or was passed over, one line each.
    """

    path: Path
    rows: tuple[Row, ...]
    classes: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


def refuse_same_id(path: Path, rows: Iterable[Row]) -> None:
    """Two photos after which results would be called the same.

    Raises:
        DataError: it names both.
    """
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.id, row)
        if other is row:
            continue
        where = f"{path}, {row.place}" if row.place else f"{path}"
        if other.image == row.image:
            raise DataError(f"{where}: {row.image} stands already in {other.place}")
        beside = f" ({other.place})" if other.place else ""
        raise DataError(
            f"{where}: {row.image} and {other.image}{beside} differ only by suffix; "
            f"results are named by the path without suffix, so one of them needs another name"
        )
