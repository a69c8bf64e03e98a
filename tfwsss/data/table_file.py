"""Tables: CSV in its dialects, and JSON lines, as records with named cells."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular

LONGEST_LINE = 1 << 20  # characters of a line of JSON


@dataclass(frozen=True)
class Dialect:
    """How a table is written. A byte-order mark of UTF-8, as Excel writes it, may be there or not."""

    delimiter: str = ","
    encoding: str = "utf-8"
    header: bool = True


@dataclass(frozen=True)
class Record:
    """One row: where it stands, such as "line 3", and its cells by column; texts, but for JSON."""

    place: str
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Columns in their order, and the records below them."""

    path: Path
    columns: tuple[str, ...]
    records: tuple[Record, ...]


def read_table(path: Path, dialect: Dialect | None = None, *, most: int | None = None, expected: str = "image,tags") -> Table:
    """Read a table whole.

    Column names lose blanks at their ends, and so do cells. Empty lines are passed over. Without a header columns are called 1, 2, ...

    Args:
        path: `.jsonl` and `.ndjson` have one JSON object a line, everything else is CSV.
        dialect: of a CSV.
        most: rows that are read; None: all.
        expected: columns, for the messages.

    Raises:
        DataError: the file is missing, in another encoding, or malformed; a row has too few or too many fields; a column
            occurs twice. The message names file and line.
    """
    path, dialect = Path(path), dialect or Dialect()
    encoding = "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
    try:
        require_regular(path)
        # newline="" leaves line ends inside quotes to csv.
        with path.open(encoding=encoding, newline="") as file:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                return _json_lines(path, file, most)
            return _csv(path, csv.reader(file, strict=True, delimiter=dialect.delimiter, skipinitialspace=True), dialect, most)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a table with the columns {expected}") from None
    except UnicodeError as error:
        place = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(f"{path}: not {dialect.encoding.upper()}{place}; save it as UTF-8, or name another data.encoding") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _csv(path: Path, reader, dialect: Dialect, most: int | None) -> Table:
    records: list[Record] = []
    columns: tuple[str, ...] = ()
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if not columns:
                columns = tuple(name.strip() for name in fields) if dialect.header else tuple(map(str, range(1, len(fields) + 1)))
                if dialect.header:
                    continue
            where = f"{path}, line {reader.line_num}"
            if len(fields) != len(columns):
                raise DataError(f"{where}: {len(fields)} fields, expected {len(columns)} ({','.join(columns)[:200]})")
            records.append(Record(f"line {reader.line_num}", {name: field.strip() for name, field in zip(columns, fields, strict=True)}))
            if most is not None and len(records) >= most:
                break
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None
    return Table(path, columns, tuple(records))


def _json_lines(path: Path, file, most: int | None) -> Table:
    records: list[Record] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_lines(path, file), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not valid JSON: {str(error).splitlines()[0]}") from None
        if not isinstance(cells, dict):
            raise DataError(f"{path}, line {number}: {type(cells).__name__}, expected an object")
        columns |= dict.fromkeys(cells)
        records.append(Record(f"line {number}", cells))
        if most is not None and len(records) >= most:
            break
    return Table(path, tuple(columns), tuple(records))


def _lines(path: Path, file) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path}, line {number}: longer than {LONGEST_LINE} characters")
        yield line


def require_columns(table: Table, *names: str) -> None:
    """Raises:
    DataError: one of them is not there, or is there twice.
    """
    for name in names:
        if table.columns.count(name) != 1:
            found = ",".join(table.columns)[:200] or "an empty file"
            raise DataError(f"{table.path}, line 1: expected the columns {','.join(names)} separated by commas, found {found}")
