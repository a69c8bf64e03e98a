"""Shards: several processes without a common scheduler that each do their part of a stage's photos in one work directory.

A photo belongs to the same shard whenever and wherever it is asked, so shards need not speak to each other: what they leave
is a photo's files, and the closing call (`tfwsss stage STAGE CONFIG --close`) finds out whether all are there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tfwsss.errors import StageError

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
