"""Several processes in one work directory: which photos each does, and who may be at work at the same time.

Shards have no common scheduler. A photo belongs to the same shard whenever and wherever it is asked, so they need not speak to
each other: what they leave is a photo's files, and the closing call (`tfwsss stage STAGE CONFIG --close`) finds out whether all
are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

from tfwsss.errors import StageError

OWN = ".lock"  # held by a run alone, or by all shards together
GATE = ".shards.lock"  # held by the one shard that prepares what the others need, too
SHOWN = 3  # ids of missing photos in a message, for each shard


class HasId(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=HasId)


class Part(Protocol):
    """Decides which of the photos whose files are missing are to be done."""

    def take(self, missing: Sequence[Item]) -> list[Item]: ...


def shard_of(id: str, count: int) -> int:
    """Which of `count` shards a photo belongs to, 1..count: by its id alone, so that photos that come or go move no other."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=8).digest()) % count + 1


@dataclass(frozen=True)
class Share:
    """The part of one shard: `number` of `count`, from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """ "2/8" is the second of eight.

        Raises:
            ValueError: it is not of this form.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text}: expected I/N with 1 <= I <= N, such as 2/8 for the second of eight shards")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def take(self, missing: Sequence[Item]) -> list[Item]:
        return [item for item in missing if shard_of(item.id, self.count) == self.number]


@dataclass(frozen=True)
class Closing:
    """The part of the call that closes a stage: nothing.

    Attributes:
        stage: its name.
        count: how many shards there were.
    """

    stage: str
    count: int

    def take(self, missing: Sequence[Item]) -> list[Item]:
        """
        Raises:
            StageError: photos are missing; says which of which shard.
        """
        if not missing:
            return []
        lines = []
        for number in range(1, self.count + 1):
            ids = [item.id for item in missing if shard_of(item.id, self.count) == number]
            if ids:
                lines.append(f"shard {number}/{self.count}: {len(ids)} ({', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''})")
        raise StageError("\n  ".join([f"stage {self.stage}: {len(missing)} photos are missing; run their shards again, or the stage without --close", *lines]))


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
