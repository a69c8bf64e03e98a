"""Which actor of a Ray cluster does which photos, and what becomes of them when it dies.

When an actor dies, each photo that it had not finished gets an actor to itself; one that then kills three is lost, and named at
the end. A photo is done when its file is there, so it does no harm to do one twice. What a photo raises is raised here.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfwsss import __version__
from tfwsss.config import Runtime
from tfwsss.errors import StageError

from ..engine.progress import console
from ..engine.quarantine import DEATHS, Lost, PhotosLost, place
from .actor import Actor, Done, Place, Worker, places, reason
from .timing import Timing
from .work import Item, Job

STARTS = 10  # deaths in a row before any actor has begun, or of a cluster of our own, after which we give up
CALLS = 2  # under way with an actor, so that the second one's photos are read while the first one's are finished
LEAST = 4  # photos of a call
AHEAD = 16  # calls for each actor whose results may wait for an earlier one's
LOOK_EVERY_SECONDS = 5.0
PATIENCE_SECONDS = 60.0  # between two lines that say that nobody works


class Cluster(Protocol):
    """Where actors live.

    Attributes:
        runtime: settings.
        actors: those that are thought to be alive.
        turn: number of the last job.
    """

    runtime: Runtime
    actors: list[Actor]
    turn: int

    def nodes(self) -> list[dict]:
        """The machines that are alive, as Ray describes them; none where the cluster has died."""

    def restart(self) -> bool:
        """Start it again after its death; False: it is not ours."""


class Distribution:
    """The results of all items, in order; arguments as `Executor.results`, and a file that all machines must see."""

    def __init__(self, cluster: Cluster, items: Sequence[Any], job: Job, timing: Timing, done: Callable[[Item], bool], mark: Path):
        self.cluster, self.items, self.job, self.timing, self.done, self.mark = cluster, items, job, timing, done, mark
        cluster.turn += 1
        self._turn = cluster.turn
        self._fresh = 0  # number of the first photo that nobody has had
        self._again: deque[int] = deque()  # photos of actors that died with their machine
        self._suspects: deque[int] = deque()  # photos of actors that died, and not with their machine
        self._found: dict[int, Any] = {}
        self._deaths: Counter[int] = Counter()
        self._lost: dict[int, Lost] = {}
        self._failed_starts = 0
        self._looked = self._idle_since = time.monotonic() - LOOK_EVERY_SECONDS
        for actor in list(cluster.actors):
            if actor.calls:  # of a call that has ended early; who knows for how long it will be busy
                actor.kill()
                cluster.actors.remove(actor)
            else:
                self._begin(actor)

    def __iter__(self) -> Iterator[Any]:
        given = 0
        while given < len(self.items):
            if given in self._found:
                result = self._found.pop(given)
                given += 1
                if isinstance(result, Exception):
                    raise result
                yield result
            elif given in self._lost:
                given += 1
            else:
                self._keep_actors()
                self._hand_out(given)
                self._collect()
        if self._lost:
            raise PhotosLost([self._lost[number] for number in sorted(self._lost)])

    def _begin(self, actor: Actor) -> None:
        actor.calls, actor.alone = {}, False
        actor.beginning = actor.handle.begin.remote(self._turn, self.job, self.cluster.runtime.workers, __version__, self.mark)

    def _keep_actors(self) -> None:
        """An actor at each place, as machines come and go."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if time.monotonic() - self._looked < LOOK_EVERY_SECONDS:
            return
        self._looked = time.monotonic()
        nodes = self.cluster.nodes()
        if not nodes:
            self._begin_anew()
            return
        taken = {actor.place for actor in self.cluster.actors}
        wanted = places(nodes, self.job.network, self.cluster.runtime)
        if not wanted:
            raise StageError("the Ray cluster has no machine with a core to spare (num_cpus)")
        for actor in [actor for actor in self.cluster.actors if actor.place not in wanted and not actor.calls]:
            actor.kill()  # of another kind of work
            self.cluster.actors.remove(actor)
        for spot in wanted:
            if spot not in taken:
                options: dict[str, Any] = {"num_cpus": spot.cores, "num_gpus": spot.gpus, "max_concurrency": CALLS, "max_restarts": 0, "max_task_retries": 0}
                kind = ray.remote(**options, scheduling_strategy=NodeAffinitySchedulingStrategy(spot.node, soft=False))(Worker)  # type: ignore[call-overload]  # a strategy that Ray's annotations do not list
                actor = Actor(spot, kind.remote(str(Path.cwd()), spot), None)
                self.cluster.actors.append(actor)
                self._begin(actor)

    def _begin_anew(self) -> None:
        """The cluster is gone, with all actors."""
        self._failed_starts += 1
        for actor in list(self.cluster.actors):
            self._bury(actor, None)
        if self._failed_starts > STARTS or not self.cluster.restart():
            raise StageError("Ray's process on this machine has ended; the same command goes on where this one stopped")
        console.print("  the Ray cluster of this machine has ended and was started again", style="yellow")

    def _hand_out(self, given: int) -> None:
        """Give each actor that has room some photos."""
        ready = [actor for actor in self.cluster.actors if actor.beginning is None]
        end = given + AHEAD * max(len(ready), 1) * self._size(ready[0].place if ready else None)
        for actor in ready:
            while len(actor.calls) < CALLS and not actor.alone:
                if self._suspects:
                    if actor.calls:
                        break  # until it has nothing else to do
                    numbers, actor.alone = [self._suspects.popleft()], True
                elif self._again:
                    numbers = [self._again.popleft() for _ in range(min(self._size(actor.place), len(self._again)))]
                else:
                    numbers = list(range(self._fresh, min(self._fresh + self._size(actor.place), end, len(self.items))))
                    self._fresh += len(numbers)
                if not numbers:
                    break
                actor.calls[actor.handle.do.remote(self._turn, [self.items[number] for number in numbers])] = numbers

    def _size(self, spot: Place | None) -> int:
        """Photos of a call: enough for all threads."""
        return LEAST if spot is None else max(LEAST, 2 * spot.cores, 16 * spot.gpus)

    def _collect(self) -> None:
        """Take the next answers, or wait for a second."""
        import ray

        waiting: dict[Any, Actor] = {}
        for actor in self.cluster.actors:
            waiting |= dict.fromkeys(actor.calls, actor)
            if actor.beginning is not None:
                waiting[actor.beginning] = actor
        if any(actor.beginning is None for actor in self.cluster.actors):
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > PATIENCE_SECONDS:
            console.print("  no worker of the Ray cluster has begun yet", style="yellow")
            self._idle_since = time.monotonic()
        if not waiting:
            time.sleep(1.0)
            return
        answers, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
        for answer in answers:
            actor = waiting[answer]
            try:
                self._take(actor, answer, ray.get(answer))
            except ray.exceptions.RayTaskError as error:  # raised while it began, or no answer that can be sent
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except ray.exceptions.RayError as error:
                self._looked = 0.0  # for a new one
                self._bury(actor, self._death(actor, error))

    def _death(self, actor: Actor, error: Exception) -> Exception | None:
        """What an actor died of; None where that says nothing about its photos, as its machine died, too, or is out of reach."""
        import ray

        if isinstance(error, ray.exceptions.ActorUnavailableError):
            try:
                ray.get(actor.handle.__ray_ready__.remote(), timeout=PATIENCE_SECONDS)
                return None
            except ray.exceptions.GetTimeoutError:
                return None
            except ray.exceptions.RayError as found:
                error = found
        alive = any(node["NodeID"] == actor.place.node for node in self.cluster.nodes())
        return error if alive and not isinstance(error, ray.exceptions.ActorUnavailableError) else None

    def _take(self, actor: Actor, answer: Any, found: Done | None) -> None:
        self._failed_starts = 0
        if answer == actor.beginning:
            actor.beginning = None
            return
        assert found is not None
        numbers, actor.alone = actor.calls.pop(answer), False
        self.timing.add(found.seconds)
        self._found.update(zip(numbers, found.results, strict=False))
        if found.error is not None:
            self._found[numbers[len(found.results)]] = found.error

    def _bury(self, actor: Actor, error: Exception | None) -> None:
        """See to the photos of an actor that is dead, or out of reach; without an error its machine has gone."""
        actor.kill()
        self.cluster.actors.remove(actor)
        if actor.beginning is not None and error is not None:
            self._failed_starts += 1
            if self._failed_starts > STARTS:
                raise StageError(f"workers of the Ray cluster end before they have begun: {reason(error)}")
        for number in sorted(number for numbers in actor.calls.values() for number in numbers):
            item = self.items[number]
            if self.done(item):
                self._found[number] = None
            elif error is None:
                self._again.append(number)
            else:
                self._deaths[number] += actor.alone
                if self._deaths[number] < DEATHS:
                    self._suspects.append(number)
                else:
                    self._lost[number] = Lost(item.id, place(item.image), f"killed {DEATHS} workers that had nothing else to do: {reason(error)}")
