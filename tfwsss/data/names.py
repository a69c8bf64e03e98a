"""Names of photos, classes and files: one Unicode form, and what can be the name of a result.

Two texts that look the same can be different: "é" is one character in form C (NFC) and two in form D (NFD), which macOS and
archives made there use for file names. Tags, class names and ids are kept in form C; files are found in any form.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tfwsss.errors import DataError
from tfwsss.storage.atomic import is_temporary

SUFFIXES = (".npz", ".png")  # of a photo's results, see tfwsss.storage.artifacts
LONGEST_NAME = 255  # bytes; of nearly every file system


def normal(text: str) -> str:
    """The text in Unicode's form C."""
    return unicodedata.normalize("NFC", text)


def existing(path: Path) -> Path:
    """The path, or the one of what is there under the same name in another Unicode form."""
    if str(path).isascii() or _is_there(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if not _is_there(found / part):
            part = _names_in(found).get(normal(part), part)
        found /= part
    return found if _is_there(found) else path


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _names_in(folder: Path) -> dict[str, str]:
    try:
        return _listing(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listing(folder: Path, mtime_ns: int) -> dict[str, str]:
    """{name in form C: name} of all in a folder that have more than one form."""
    return {normal(name): name for name in os.listdir(folder) if not name.isascii()}  # noqa: PTH208


def merged_forms(texts: Iterable[str], what: str) -> tuple[str, ...]:
    """A remark on texts that differ only by their Unicode form and are taken as one; none where there are none."""
    forms: dict[str, set[str]] = {}
    for text in texts:
        if not text.isascii():
            forms.setdefault(normal(text), set()).add(text)
    same = sorted(name for name, spellings in forms.items() if len(spellings) > 1)
    return (f"{what} that differ only by Unicode form (NFC, NFD) are taken as one: {', '.join(map(repr, same))}",) if same else ()


def relative_photo_path(text: str, where: str) -> Path:
    """A photo's path as a list or table gives it, with either kind of separator, checked to stay below its root.

    Args:
        text: the path; a drive letter, a leading "/" or a ".." part is refused.
        where: "file, line n" for the message.

    Raises:
        DataError: the path is empty, is no text that a file could be called, or leaves the root.
    """
    path = Path(text.strip().replace("\\", "/"))
    if not path.name or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{where}: {text!r} is not the path of a file")
    if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
        raise DataError(f"{where}: {text!r} leaves the data set's folder, expected a path relative to it")
    return path


def photo_id(path: Path) -> str:
    """Id of a photo: its relative path without suffix, "/" between folders, in form C."""
    return normal(path.with_suffix("").as_posix())


def unusable_ids(ids: Iterable[str], longest: int = LONGEST_NAME) -> dict[str, str]:
    """Why results cannot be called after some of the ids.

    Args:
        ids: of all photos of a run.
        longest: bytes that the file system allows for one name.

    Returns:
        {id: reason, one line}
    """
    ids = list(ids)
    results = {image_id + suffix: image_id for image_id in ids for suffix in SUFFIXES}
    reasons = {}
    for image_id in ids:
        *folders, name = image_id.split("/")
        length = max(len(os.fsencode(name)) + len(SUFFIXES[0]), *(len(os.fsencode(folder)) for folder in folders), 0)
        above = ["/".join(folders[: depth + 1]) for depth in range(len(folders))]
        other = next((results[folder] for folder in above if folder in results), None)
        if length > longest:
            reasons[image_id] = f"name too long: results called after it would have {length} bytes, the file system takes {longest}"
        elif other is not None:
            reasons[image_id] = f"name in the way: a result of photo {other!r} is called like this photo's folder"
        elif any(is_temporary(part) for part in (*folders, name)):
            reasons[image_id] = "name reserved: temporary files of tfwsss are called so"
    return reasons
