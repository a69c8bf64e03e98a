"""The executor of a shard: the threads of a process that nobody watches, and that photos may kill.

Started again after its death, it does the photos that were under way one at a time; one that then kills it three times is lost, and
named at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tfwsss.config import Runtime
from tfwsss.processes import worker_count

from ..engine.context import Context
from ..engine.progress import console
from ..engine.quarantine import DEATHS, Lost, PhotosLost, place
from ..engine.sharing import Share
from .attempts import Attempts
from .threads import Engine
from .timing import Timing
from .work import Item, Job


def notes_of(folder: Path, share: Share) -> Path:
    """Where a shard notes what it has begun; the name is of those that are removed when the stage is closed or begins anew."""
    return folder / f".tfwsss-{hashlib.blake2b(str(share).encode(), digest_size=16).hexdigest()}.tmp.{share.number}-of-{share.count}"


class Shard:
    """See `executor.py`."""

    def __init__(self, runtime: Runtime, notes: Path):
        self._runtime = runtime
        self._attempts = Attempts(notes)

    @classmethod
    def of(cls, context: Context, share: Share) -> Shard:
        """The one of a stage."""
        return cls(context.config.runtime, notes_of(context.folder(context.before[-1]), share))

    def __enter__(self) -> Shard:
        self._attempts.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._attempts.__exit__(*error)

    def results(self, items: Sequence[Any], job: Job, timing: Timing, done: Callable[[Item], bool]) -> Iterator[Any]:
        suspects = {item.id: self._attempts.suspects[item.id] for item in items if item.id in self._attempts.suspects}
        lost = {id for id, deaths in suspects.items() if deaths >= DEATHS}
        if suspects:
            console.print(f"  {len(suspects)} photos were under way when a process of this shard died: they come first, one by one", style="yellow")
        engine = Engine(job.work(timing), worker_count(self._runtime.workers), job.devices(), timing)
        try:
            engine.start_ready()  # what kills the process meanwhile is no photo
            alone = {item.id: self._alone(engine, item) for item in items if item.id in suspects.keys() - lost}
            others = engine.results(self._noted(item for item in items if item.id not in suspects))
            for item in items:
                if item.id not in suspects:
                    result = next(others)
                    self._attempts.ended(item.id)
                    yield result
                elif item.id in alone:
                    yield alone.pop(item.id)
        finally:
            engine.__exit__()
        if lost:
            raise PhotosLost(Lost(item.id, place(item.image), f"killed {DEATHS} processes that had nothing else to do") for item in items if item.id in lost)

    def _alone(self, engine: Engine, item: Any) -> Any:
        self._attempts.begun(item.id, alone=True)
        (result,) = engine.results([item])
        self._attempts.ended(item.id)
        return result

    def _noted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._attempts.begun(item.id)
            yield item

    def detail(self, timing: Timing) -> str:
        return timing.shares()

    def rest(self) -> None:
        pass
