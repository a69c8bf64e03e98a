"""Files and folders that are either whole or absent: written to a temporary name beside the target, then renamed."""

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from pathlib import Path

from tfwsss.errors import DataError

LONGEST_SUFFIX = 16  # characters; what follows the last dot of a longer one is no file format
_TEMPORARY = re.compile(r"\.tfwsss-[0-9a-f]{32}\.tmp(\..*)?", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that was being written; no result may be called so."""
    return _TEMPORARY.fullmatch(name) is not None


def _temporary(path: Path) -> Path:
    # Without the target's stem, so that it is never too long where the target's name is not. The suffix is kept last
    # because writers such as Pillow and Keras choose the format by it.
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    return path.with_name(f".tfwsss-{uuid.uuid4().hex}.tmp{suffix}")


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path in the target's folder; when the block ends without error, the file there becomes `path`.

    The folder is created. On error the temporary file is removed and `path` is left as it was.

    Raises:
        IsADirectoryError: `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, expected a file or nothing", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb") as file:  # on disk before it gets its name, or a power cut leaves an empty file
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk, for one, has no file name
            error.filename = str(path)
        raise
    finally:
        remove(temporary)


@contextlib.contextmanager
def atomic_folder(path, *, replace: bool = False):
    """As `atomic_path`, for a folder that the block makes at the temporary path.

    Args:
        path: the target.
        replace: whether a folder at `path` is removed in exchange. Whoever says so knows who wrote what is in it.

    Raises:
        FileExistsError: something is at `path`, and it is not to be replaced, or is a link or a file.
    """
    path = Path(path)
    _require_free(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        replace_folder(temporary, path, replace=replace)
    finally:
        remove(temporary)


def replace_folder(source, target, *, replace: bool = True) -> None:
    """Rename a folder; one at `target` is removed when the new one has its name. Errors as `atomic_folder`."""
    source, target = Path(source), Path(target)
    _require_free(target, replace)
    old = _temporary(target)
    if target.exists():
        target.rename(old)
    try:
        source.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    remove(old)


def _require_free(path: Path, replace: bool) -> None:
    if path.is_symlink() or (path.exists() and not (replace and path.is_dir())):
        raise FileExistsError(errno.EEXIST, "something is there already", str(path))


def remove(path) -> None:
    """Remove a file, a link, or a folder with all that is in it, if it is there. What a link points to stays."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder, *, below: bool = True) -> None:
    """Remove what a killed process was writing in a folder and, with `below`, in all folders below it; links are not followed."""
    for place, folders, files in os.walk(folder):
        if Path(place).is_symlink():
            return
        for name in filter(is_temporary, (*folders, *files)):
            remove(Path(place) / name)
        folders[:] = [name for name in folders if below and not is_temporary(name)]


def write_text(path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write a JSON file atomically (two-space indent, keys in the given order)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def require_regular(path) -> None:
    """Refuse what would keep its reader waiting for ever, such as a pipe or a terminal.

    Raises:
        OSError: something is there, and it is neither a file nor a link to one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "a folder, expected a file" if path.is_dir() else "not a regular file", str(path))


def read_json(path):
    """Read a JSON file; None when it does not exist.

    Raises:
        DataError: it is damaged.
    """
    try:
        require_regular(path)
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, not valid JSON: {str(error).splitlines()[0]}") from None
