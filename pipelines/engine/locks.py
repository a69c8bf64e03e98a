"""Who may work in a work directory at the same time: one run, or any number of shards."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tfwsss.errors import StageError

OWN = ".lock"  # held by a run alone, or by all shards together
GATE = ".shards.lock"  # held by the one shard that prepares what the others need, too


def _flock(file: IO, kind: int, work: Path, refusal: str) -> None:
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        raise StageError(f"{work}: {refusal}") from None
    except OSError as error:
        raise StageError(f"{work}: its file system has no locks ({error.strerror}); choose another work_dir") from None


@contextlib.contextmanager
def only_one(work: Path) -> Iterator[None]:
    """Two runs in one work directory would overwrite each other's files.

    Raises:
        StageError: another run, or a shard, is at work there, or its file system knows no locks.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / OWN).open("a") as file:
        _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB, work, "another tfwsss process is working in this directory")
        yield


@contextlib.contextmanager
def one_of_many(work: Path) -> Iterator[Membership]:
    """A shard's time in a work directory, which it shares with other shards; to be entered `behind_gate`, so that
    whoever is waiting there does not count as at work.

    Raises:
        StageError: a run is at work there, or its file system knows no locks.
    """
    with (work / OWN).open("a") as file:
        _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB, work, "a tfwsss run that is no shard is working in this directory")
        yield Membership(file, work)


class Membership:
    """Of a shard that is at work in a directory."""

    def __init__(self, file: IO, work: Path):
        self._file, self._work = file, work

    @contextlib.contextmanager
    def without_others(self) -> Iterator[None]:
        """Within the block no other shard is at work; to be entered `behind_gate`.

        Raises:
            StageError: others are.
        """
        _flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, self._work, "other shards are at work in this directory, on another stage or with other settings")
        yield
        _flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB, self._work, "a tfwsss run that is no shard is working in this directory")


@contextlib.contextmanager
def behind_gate(work: Path) -> Iterator[None]:
    """Within the block no other shard is within one; waits for its turn."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / GATE).open("a") as file:
        _flock(file, fcntl.LOCK_EX, work, "")
        yield
