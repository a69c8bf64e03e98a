"""Digests of files' contents, read again only where size, times or inode show that a file may be another one."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from tfwsss.errors import DataError
from tfwsss.processes import usable_cores
from tfwsss.storage.atomic import read_json, write_json

FILE = ".contents.json"  # in the work directory; may be removed at any time
BLOCK = 1 << 20  # bytes hashed at once


def _read(path: Path) -> tuple[list[int], str] | None:
    """(signature, digest) of a regular file; None where there is none that can be read."""
    signature = _signature(path)
    if signature is None:  # anything but a file may keep its reader waiting for ever
        return None
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
    except OSError:
        return None
    return signature, digest.hexdigest()


def _signature(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # The time of change, unlike that of modification, cannot be set back.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


class Contents:
    """BLAKE2b-128 of files, with a memory in the work directory.

    Args:
        work: the work directory.
    """

    def __init__(self, work: Path):
        self._path = work / FILE
        self._changed = False
        try:
            known = read_json(self._path)
        except (OSError, DataError):  # only a memory: whatever is wrong with it, the files are read again
            known = None
        self._known: dict[str, list] = known if isinstance(known, dict) else {}

    def digests(self, paths: Iterable[Path]) -> dict[Path, str | None]:
        """Hexadecimal digest of each file; None for what is no readable file."""
        found, unknown = {}, []
        for path in dict.fromkeys(paths):
            signature = _signature(path)
            known = self._known.get(str(path))
            if signature is not None and isinstance(known, list) and known[:-1] == signature:
                found[path] = known[-1]
            else:
                unknown.append(path)
        with ThreadPoolExecutor(min(8, usable_cores())) as pool:  # hashing does not hold the interpreter
            for path, result in zip(unknown, pool.map(_read, unknown), strict=True):
                found[path] = None if result is None else result[1]
                if result is not None:
                    self._known[str(path)] = [*result[0], result[1]]
                    self._changed = True
        return found

    def save(self) -> None:
        """Keep what has been read, for the next run."""
        if self._changed:
            write_json(self._path, {path: known for path, known in self._known.items() if Path(path).exists()})
            self._changed = False


@cache
def contents_of(work: Path) -> Contents:
    """The one of a work directory in this process."""
    return Contents(work)
