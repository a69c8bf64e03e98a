"""Who does the per-photo work: the threads of this process, those of a shard, or Ray (`runtime.executor`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from tfwsss.config import Runtime
from tfwsss.processes import worker_count

from ..engine.context import Context
from ..engine.sharing import Share
from .shard import Shard
from .threads import run_images
from .timing import Timing
from .work import Item, Job


class Executor(Protocol):
    """Does work, and keeps what it needs for that until the end of its block."""

    def results(self, items: Sequence[Item], job: Job, timing: Timing, done: Callable[[Item], bool]) -> Iterator[Any]:
        """The results of all items, in order.

        Args:
            items: what names a photo, as data.
            job: the work.
            timing: gets the seconds of all who work.
            done: whether an item's result is on disk; its result is then None.

        Raises:
            PhotosLost: at the end, photos that killed the processes that worked on them; they have no result.
        """

    def detail(self, timing: Timing) -> str:
        """For the progress bar: where the time goes, and who works."""

    def rest(self) -> None:
        """There is nothing to do for a while, perhaps hours: let go of what others may want."""


class Local(contextlib.nullcontext):
    """The threads of this process."""

    def __init__(self, runtime: Runtime):
        super().__init__(self)
        self._runtime = runtime

    def results(self, items: Sequence[Item], job: Job, timing: Timing, done: Callable[[Item], bool]) -> Iterator[Any]:
        return run_images(items, job.work(timing), workers=worker_count(self._runtime.workers), devices=job.devices(), timing=timing)

    def detail(self, timing: Timing) -> str:
        return timing.shares()

    def rest(self) -> None:
        pass


def executor_of(runtime: Runtime) -> contextlib.AbstractContextManager[Executor]:
    """The executor that `runtime.executor` names."""
    if runtime.executor == "local":
        return Local(runtime)
    from .ray_cluster import RayCluster

    return RayCluster(runtime)


@contextlib.contextmanager
def executor(context: Context) -> Iterator[Executor]:
    """The command's, for a stage."""
    if isinstance(context.share, Share) and context.config.runtime.executor == "local":
        with Shard.of(context, context.share) as shard:
            yield shard
        return
    found = context.command.kept(executor_of, context.config.runtime)
    try:
        yield found
    finally:
        found.rest()
