"""The table of photos and tags: a CSV with the columns `image` and `tags`, `|` between tags."""

import csv
from dataclasses import dataclass
from pathlib import Path

from tfwsss.data.names import normal, photo_id, relative_photo_path
from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        line: its number.
        image: photo path relative to the data set's folder.
        tags: in Unicode form C, sorted, without repeats.
        written: the tags as they stand in the file.
    """

    line: int
    image: Path
    tags: tuple[str, ...]
    written: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The path without suffix, "/" between folders."""
        return photo_id(self.image)


def read_tag_table(path) -> list[Row]:
    """Read the table, UTF-8 with or without byte-order mark, quoted fields, either kind of path separator.

    Columns other than `image` and `tags` are passed over, as are empty lines.

    Raises:
        DataError: the file is missing, not UTF-8, lacks a column or has no rows; a row has too few or too many fields
            or a path that leaves the folder; or two rows give the same id. The message names file and line.
    """
    path = Path(path)
    try:
        require_regular(path)
        # A byte-order mark comes from Excel's "CSV UTF-8"; newline="" leaves line ends inside quotes to csv.
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _rows(path, csv.reader(file, strict=True))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a CSV with the columns image,tags") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not rows:
        raise DataError(f"{path}: no rows below the header")
    _refuse_same_id(path, rows)
    return rows


def _rows(path: Path, reader) -> list[Row]:
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for column in ("image", "tags"):
            if header.count(column) != 1:
                found = ",".join(header) or "an empty file"
                raise DataError(f"{path}, line 1: expected the columns image,tags separated by commas, found {found}")
        image, tags = header.index("image"), header.index("tags")
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            where = f"{path}, line {reader.line_num}"
            if len(fields) != len(header):
                raise DataError(f"{where}: {len(fields)} fields, expected {len(header)} ({','.join(header)})")
            names = {name.strip() for name in fields[tags].split("|")} - {""}
            row_tags = tuple(sorted(set(map(normal, names))))
            rows.append(Row(reader.line_num, relative_photo_path(fields[image], where), row_tags, tuple(sorted(names))))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    return rows


def _refuse_same_id(path: Path, rows: list[Row]) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.id, row)
        if other is row:
            continue
        if other.image == row.image:
            raise DataError(f"{path}, line {row.line}: {row.image} stands already in line {other.line}")
        raise DataError(
            f"{path}, line {row.line}: {row.image} and {other.image} (line {other.line}) differ only by suffix; "
            f"results are named by the path without suffix, so one of them needs another name"
        )
