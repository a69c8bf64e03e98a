"""An actor of a Ray cluster: where it lives, what it does, and how the process that started it sees it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tfwsss import __version__
from tfwsss.config import Runtime
from tfwsss.errors import StageError

from .threads import Engine
from .timing import Timing
from .work import Job


class Place(NamedTuple):
    """Where an actor may live: number `slot` of `slots` on a machine, with so many cores and GPUs."""

    node: str
    slot: int
    slots: int
    cores: int
    gpus: int


class Done(NamedTuple):
    """What an actor answers: results in order, up to the first error, and what the time was for."""

    results: list[Any]
    seconds: dict[str, float]
    error: Exception | None


class Worker:
    """Body of an actor: the threads of `threads.py`, for one job after another."""

    def __init__(self, home: str, spot: Place):
        with contextlib.suppress(OSError):
            os.chdir(home)  # relative paths of the configuration
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if spot.slots > 1 and hasattr(os, "sched_setaffinity"):  # libraries count the cores that a process may use
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, cores[spot.slot * spot.cores : (spot.slot + 1) * spot.cores] or cores)
        self._cores = spot.cores
        self._engine: Engine | None = None
        self._turn = 0  # of the job that was taken up last
        self._wanted = 0  # jobs of smaller numbers have ended: perhaps before this actor has begun with them
        self._beginning = threading.Lock()

    def begin(self, turn: int, job: Job, threads: int, version: str, mark: Path) -> None:
        """Take up a job, with all that its devices need, unless it has ended meanwhile.

        Args:
            turn: number of the job; later ones have larger numbers.
            job: the work.
            threads: that read, and as many that finish; 0: one for each core.
            version: of the process that asks.
            mark: a file that all machines must see.

        Raises:
            StageError: this machine has another version, or does not see the folder.
        """
        if version != __version__:
            raise StageError(f"a machine of the Ray cluster has tfwsss {__version__}, and this one {version}")
        self._wanted = max(self._wanted, turn)
        deadline = time.monotonic() + 10.0  # other machines may see a new file late
        while not mark.exists():
            if turn < self._wanted:
                return
            if time.monotonic() > deadline:
                raise StageError(f"{mark.parent}: not seen by all machines of the Ray cluster, which must share it")
            time.sleep(0.5)
        with self._beginning:
            if turn < self._wanted:
                return
            if self._engine is not None:
                self._engine.__exit__()
            timing = Timing()
            self._turn, self._engine = turn, None
            self._engine = Engine(job.work(timing), threads or self._cores, job.devices(), timing).start_ready()

    def let_go(self, turn: int) -> None:
        """End the threads of a job that has ended and forget its network, unless a later one has been taken up."""
        self._wanted = max(self._wanted, turn + 1)
        with self._beginning:
            if turn == self._turn and self._engine is not None:
                self._engine.__exit__()
                self._engine = None
                gc.collect()  # networks refer to themselves

    def do(self, turn: int, items: list) -> Done:
        """Some photos of the job that was taken up last."""
        assert self._engine is not None and turn == self._turn
        results, error = [], None
        try:
            for result in self._engine.results(items):
                results.append(result)
        except Exception as found:
            error = found
        return Done(results, self._engine.timing.take(), error)


@dataclass
class Actor:
    """An actor as this process sees it.

    Attributes:
        beginning: the answer to `begin` that we wait for.
        calls: {answer that we wait for: numbers of its photos}.
        alone: whether it has only one photo, which may have killed another actor.
    """

    place: Place
    handle: Any
    beginning: Any
    calls: dict[Any, list[int]] = field(default_factory=dict)
    alone: bool = False

    def let_go(self, turn: int) -> None:
        with contextlib.suppress(Exception):  # as below
            self.handle.let_go.remote(turn)

    def kill(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # it may be gone, and so may the cluster
            ray.kill(self.handle)


def places(nodes: list[dict], network: bool, runtime: Runtime) -> list[Place]:
    """Where actors may live: one for each GPU where a network is to run and there are GPUs, else one for each `cpus_per_actor` cores.

    Args:
        nodes: living ones, as ray.nodes() gives them.
        network: whether the work runs a network.
        runtime: the settings.
    """
    found = []
    with_gpu = network and runtime.inference != "onnxruntime" and any(node["Resources"].get("GPU") for node in nodes)
    for node in nodes:
        cores, gpus = int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)) if with_gpu else 0
        if with_gpu:
            slots, each = gpus, cores // max(gpus, 1)
        else:
            each = min(cores, runtime.cpus_per_actor or cores)
            slots = cores // max(each, 1)
        found += [Place(node["NodeID"], slot, slots, max(each, 1), int(with_gpu)) for slot in range(slots)]
    return found


def reason(error: Exception) -> str:
    """What Ray says of an actor's death, in a few words."""
    text = str(error)
    if "running low on memory" in text or "OutOfMemory" in type(error).__name__:
        return "not enough memory"
    detail = re.search(r"Worker exit detail: (.*)", text)
    return detail[1].split(" Some common causes")[0].strip() if detail else text.strip().splitlines()[-1]
