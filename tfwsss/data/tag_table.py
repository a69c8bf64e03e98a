"""Tables of photos and tags in three layouts, and the notation of tags: `dog|?cat|-cow` is a dog, perhaps a cat, and no cow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfwsss.data.names import normal, relative_photo_path
from tfwsss.data.rows import Row, refuse_same_id
from tfwsss.data.table_file import Dialect, Record, Table, read_table, require_columns
from tfwsss.errors import DataError

LIST = "list"  # instead of a separator: cells are lists as JSON and Python write them
GROUP = "group"  # column
_LIST_ITEM = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([^\s,'\"\[\]]+))\s*(?:,|$)")
TRUE, FALSE, OPEN = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"}), frozenset({"-1", "-1.0", "?"})


def read_tag_table(path) -> list[Row]:
    """Read a table with the columns `image` and `tags`, and, if it is there, `group`; others are passed over, as are empty lines.

    CSV in UTF-8 with or without byte-order mark, quoted fields, either kind of path separator.

    Raises:
        DataError: the file is missing, not UTF-8, lacks a column or has no rows; a row has too few or too many fields
            or a path that leaves the folder; or two rows give the same id. The message names file and line.
    """
    table = read_table(Path(path))
    rows = rows_of_tags(table, "image", "tags")
    refuse_same_id(table.path, rows)
    return rows


def rows_of_tags(table: Table, image: str, tags: str, separator: str | None = "|", suffix: str = "") -> list[Row]:
    """Rows of a table with a column of tags.

    Args:
        table: of `read_table`.
        image, tags: names of the columns.
        separator: between tags; None: a cell is one tag; `LIST`.
        suffix: what the table leaves off file names.

    Raises:
        DataError: as `read_tag_table`.
    """
    require_columns(table, image, tags)
    rows = []
    for record in _records(table):
        where = f"{table.path}, {record.place}"
        known = split_tags(_tags_in(record.cells.get(tags), separator, where))
        rows.append(_row(record, image, suffix, where, *known))
    return rows


def split_tags(tags: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """(present, unknown, absent) of tags in the notation: `?cat` is unknown, `-cow` absent."""
    present: list[str] = []
    unknown: list[str] = []
    absent: list[str] = []
    for tag in map(str.strip, tags):
        target = {"?": unknown, "-": absent}.get(tag[:1], present)
        target.append(tag if target is present else tag[1:])
    return present, unknown, absent


def rows_of_one_hot(table: Table, image: str, classes: tuple[str, ...] | None, suffix: str = "") -> list[Row]:
    """Rows of a table with a column for each class: 1 present, 0 absent, -1 or ? unknown; an empty cell says nothing.

    Args:
        table: of `read_table`.
        image: name of the column of photos.
        classes: names of the columns of classes; None: all but the image's and `group`.
        suffix: what the table leaves off file names.

    Raises:
        DataError: as `read_tag_table`; a cell is something else; there is no column of a class.
    """
    names = classes if classes is not None else tuple(name for name in table.columns if name not in (image, GROUP))
    require_columns(table, image, *names)
    if not names:
        raise DataError(f"{table.path}, line 1: no column but {image}, expected one for each class")
    rows = []
    for record in _records(table):
        where = f"{table.path}, {record.place}"
        known: dict[frozenset, list[str]] = {TRUE: [], OPEN: [], FALSE: []}
        for name in names:
            cell = str(record.cells.get(name, "")).strip().casefold()
            kind = next((kind for kind in known if cell in kind), None)
            if kind is not None:
                known[kind].append(name)
            elif cell:
                raise DataError(f"{where}: column {name!r}: {cell[:40]!r}, expected 1, 0, -1 or nothing; if it is no class, name those that are in data.classes")
        rows.append(_row(record, image, suffix, where, known[TRUE], known[OPEN], known[FALSE]))
    return rows


def rows_of_long(
    table: Table, image: str, label: str, confidence: str | None, names: dict[str, str], suffix: str = ""
) -> list[Row]:
    """Rows of a table with a row for each tag of a photo, as that of Open Images.

    Args:
        table: of `read_table`.
        image, label: names of the columns.
        confidence: name of the column that is 1 where the class is present, 0 where it is absent; between them it is
            unknown, as it is where two rows contradict each other. None: it is present.
        names: of the codes in `label`; a code without one is its own name.
        suffix: what the table leaves off file names.

    Raises:
        DataError: as `read_tag_table`; a confidence is no number in 0..1.
    """
    require_columns(table, image, label, *(() if confidence is None else (confidence,)))
    photos: dict[str, tuple[Record, dict[str, float]]] = {}
    for record in _records(table):
        where = f"{table.path}, {record.place}"
        name = str(record.cells.get(label) or "").strip()
        sure = 1.0 if confidence is None else _confidence(record.cells.get(confidence), where)
        _, found = photos.setdefault(str(record.cells.get(image) or ""), (record, {}))
        if name:
            name = names.get(name, name)
            found[name] = sure if found.get(name, sure) == sure else 0.5
    rows = []
    for record, found in photos.values():
        known: tuple[list[str], ...] = ([], [], [])  # present, unknown, absent
        for name, sure in found.items():
            known[0 if sure == 1 else 2 if sure == 0 else 1].append(name)
        rows.append(_row(record, image, suffix, f"{table.path}, {record.place}", *known))
    return rows


def read_class_names(path: Path) -> dict[str, str]:
    """Names of codes: a CSV without header, `code,name`.

    Raises:
        DataError: as `read_table`; it has other than two columns.
    """
    table = read_table(path, Dialect(header=False), expected="code,name")
    if len(table.columns) != 2:
        raise DataError(f"{path}: {len(table.columns)} columns, expected two: code,name")
    return {record.cells["1"]: normal(record.cells["2"]) for record in table.records}


def _records(table: Table) -> tuple[Record, ...]:
    if not table.records:
        raise DataError(f"{table.path}: no rows below the header")
    return table.records


def _row(record: Record, image: str, suffix: str, where: str, present: Iterable[str], unknown: Iterable[str], absent: Iterable[str]) -> Row:
    group = record.cells.get(GROUP)
    path = relative_photo_path(f"{record.cells.get(image) or ''}{suffix if record.cells.get(image) else ''}", where)
    try:
        return Row.of(path, present, unknown, absent, group="" if group is None else str(group), place=record.place)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _tags_in(cell: Any, separator: str | None, where: str) -> list[str]:
    """The tags of one cell."""
    if cell is None:
        return []
    if isinstance(cell, list):
        if not all(isinstance(item, str | int) for item in cell):
            raise DataError(f"{where}: a list of something else than tags")
        return [str(item) for item in cell]
    if isinstance(cell, dict):
        raise DataError(f"{where}: an object where tags are expected")
    text = str(cell)
    if separator == LIST:
        return _listed(text.strip(), where)
    return [text] if separator is None else text.split(separator)


def _listed(text: str, where: str) -> list[str]:
    """Items of a list as JSON or Python write it; nothing is evaluated."""
    if not text:
        return []
    if not (text.startswith("[") and text.endswith("]")):
        raise DataError(f"{where}: {text[:40]!r}, expected a list such as [\"dog\", \"cat\"]")
    try:
        found = json.loads(text)
        if isinstance(found, list) and all(isinstance(item, str | int) for item in found):
            return [str(item) for item in found]
    except (ValueError, RecursionError):
        pass
    items, place, inside = [], 0, text[1:-1].strip()
    while place < len(inside):
        item = _LIST_ITEM.match(inside, place)
        if item is None:
            raise DataError(f"{where}: {text[:40]!r}, expected a list such as ['dog', 'cat']")
        items.append(next(part for part in item.groups() if part is not None))
        place = item.end()
    return items


def _confidence(cell: Any, where: str) -> float:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 1:
        raise DataError(f"{where}: confidence {str(cell)[:40]!r}, expected a number in 0..1")
    return value
