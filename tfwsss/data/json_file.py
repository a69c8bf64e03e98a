"""JSON of others: its size is looked at before it is read, and what is wrong with it is one line."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular

MOST_BYTES = 512 << 20  # parsed, a file takes several times its size


def load_json(path: Path, most_bytes: int = MOST_BYTES):
    """The value in a JSON file in UTF-8, with or without byte-order mark.

    Raises:
        DataError: the file is missing, too large or not JSON.
    """
    try:
        require_regular(path)
        if (size := path.stat().st_size) > most_bytes:
            raise DataError(f"{path}: {size >> 20} MB of JSON, the limit is {most_bytes >> 20} MB; split the file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {str(error).splitlines()[0]}") from None


def json_files(path: Path) -> list[Path]:
    """The file itself, or the JSON files of a folder and of those directly below it that are called like splits or annotations."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    places = [path, *(path / name for name in ("annotations", "train", "valid", "val", "test"))]
    return [file for place in places for file in sorted(place.glob("*.json")) if file.is_file()]


def peek_json(path: Path):
    """As `load_json`, for those who want to know what kind of file it is: None where it is none that can be read."""
    try:
        status = path.stat()
        return _cached(path, status.st_mtime_ns, status.st_size)
    except (OSError, DataError):
        return None


@lru_cache(maxsize=2)  # every format looks at the same file
def _cached(path: Path, mtime_ns: int, size: int):
    return load_json(path)
