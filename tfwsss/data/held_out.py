"""Which photos are held out for evaluation where the data set does not say so, and what must stay together."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from tfwsss.data.names import relative_photo_path
from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular

COPY = ".rf."  # Roboflow names the copies that it makes of x.jpg x_jpg.rf.<digest>.jpg


def group_of(image: Path, group: str = "") -> str:
    """The group of a photo: the one that is given, else that of its copies by Roboflow; "" for a photo of its own."""
    if group:
        return group
    original, copy, _ = image.name.rpartition(COPY)
    return f"{original}{COPY}" if copy else ""


def held_out(image: Path, group: str, fraction: float) -> bool:
    """Whether a photo is held out.

    By the hash of its group or path, so that adding or removing photos never moves another one to the other split.

    Args:
        image: path relative to the data set's folder.
        group: see `group_of`.
        fraction: part of the photos that is held out, 0..1.
    """
    digest = hashlib.blake2b((group or image.as_posix()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def read_groups(path: Path) -> dict[Path, str]:
    """The table of groups: a CSV with the columns `image` and `group`, others are passed over.

    Returns:
        {path of the photo, image paths being relative to the table's folder: its group}

    Raises:
        DataError: the file is missing, not UTF-8, or lacks a column; a row is too short.
    """
    groups = {}
    try:
        require_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if "image" not in row or "group" not in row:
                    raise DataError(f"{path}, line 1: expected the columns image,group, found {','.join(map(str, reader.fieldnames or ()))}")
                if row["image"] is None or row["group"] is None:
                    raise DataError(f"{where}: too few fields")
                groups[path.parent / relative_photo_path(row["image"], where)] = row["group"].strip()
    except FileNotFoundError:
        raise DataError(f"data.groups: {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not valid CSV: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return groups
