"""Which photos a process has begun and not ended, on disk: what kills the process is among them.

It may be killed by them and then has no witness, so a photo is noted before it begins, and again when it has ended. A process that
ends by itself, also with an error, accuses no photo.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from pathlib import Path
from typing import IO

MOST_LINES = 4096  # after which the file is written anew, with what is still of interest


class Attempts:
    """The notes in a file, from `with` to the end of the block. Where another process keeps them meanwhile, nothing is noted here.

    Nothing is forced to the disk: a process that is killed leaves what it has written, and of a machine that fails no photo is guilty.

    Attributes:
        suspects: {id of a photo that was under way when a process died: how many died when it alone was}.
    """

    def __init__(self, path: Path):
        self.path = path
        self.suspects: dict[str, int] = {}
        self._under_way: dict[str, bool] = {}  # whether alone
        self._file: IO[bytes] | None = None
        self._lines = 0

    def __enter__(self) -> Attempts:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._file = self.path.open("r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            self._file = None
            return self
        self._read(self._file)
        self._write_anew()
        return self

    def __exit__(self, kind, *_) -> None:
        if self._file is None:
            return
        if kind is None:
            self.path.unlink(missing_ok=True)
        else:
            self._under_way.clear()
            with contextlib.suppress(OSError):  # on a full disk, for one; what has ended the process is what is said
                self._write_anew()
        self._file.close()
        self._file = None

    def _read(self, file: IO[bytes]) -> None:
        under_way: dict[str, bool] = {}
        for line in file.read().splitlines():
            try:
                kind, id, value = json.loads(line)
            except ValueError:  # the process died within a line
                continue
            if kind == "suspect":
                self.suspects[id] = value
            elif kind == "begun":
                under_way[id] = value
            else:
                under_way.pop(id, None)
                self.suspects.pop(id, None)
        for id, alone in under_way.items():
            self.suspects[id] = self.suspects.get(id, 0) + alone

    def begun(self, id: str, alone: bool = False) -> None:
        """Before a photo begins; alone: nothing else is under way."""
        self._under_way[id] = alone
        self._note("begun", id, alone)

    def ended(self, id: str) -> None:
        """When its file is there."""
        self._under_way.pop(id, None)
        self.suspects.pop(id, None)
        self._note("ended", id, None)

    def _note(self, *entry) -> None:
        if self._file is None:
            return
        self._lines += 1
        if self._lines > MOST_LINES:
            self._write_anew()
        else:
            self._write([entry])

    def _write_anew(self) -> None:
        assert self._file is not None
        self._file.truncate(0)
        self._file.seek(0)
        entries = [*(("suspect", *one) for one in self.suspects.items()), *(("begun", *one) for one in self._under_way.items())]
        self._lines = len(entries)
        self._write(entries)

    def _write(self, entries: list[tuple]) -> None:
        assert self._file is not None
        try:
            self._file.write("".join(f"{json.dumps(entry)}\n" for entry in entries).encode())
        except OSError as error:
            error.filename = str(self.path)
            raise
