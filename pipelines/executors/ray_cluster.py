"""The Ray cluster that does the per-photo work of a command: ours, or somebody's that is there.

    items --> a few at a time --> actors, each with the threads of `threads.py` and its own network --> results, in order

Only names and results travel; photos, maps and labels pass through the file system, which all machines share.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from tfwsss.config import Runtime
from tfwsss.errors import StageError
from tfwsss.processes import usable_cores

from ..engine.interruption import ENDING
from ..preflight.executor import executor_problems
from .actor import Actor
from .distribution import Distribution
from .ray_guard import FAREWELL, start_guard
from .timing import Timing
from .work import Item, Job

ATTEMPTS = 3  # to start a cluster of our own, which Ray gives half a minute
LOOPBACK = "127.0.0.1"
NEEDED = {"gcs_server", "raylet"}  # Ray's processes without which there is no cluster
NEVER = 10 * 365 * 24 * 3600  # seconds
OBJECT_STORE = 80 << 20  # bytes; Ray takes no less, and what passes through it is small


def unwrapped(error: BaseException) -> BaseException:
    """The exception of a signal that came up inside Ray's compiled code, which makes a SystemError of it; others as they are."""
    return error.__cause__ or error if isinstance(error, SystemError) else error


def _ask(answer: Future[list[dict]]) -> None:
    import ray

    try:
        answer.set_result(ray.nodes())
    except BaseException as error:
        answer.set_exception(error)


@contextlib.contextmanager
def _loopback_kept() -> Iterator[None]:
    """Within the block Ray takes the loopback address for what it is: it would put this machine's own address in its place, and then its
    processes listen on all interfaces."""
    from ray._private import services

    before = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = before


class RayCluster:
    """An executor (`executor.py`) on the cluster at `runtime.ray_address`, or on one of this machine's cores that it starts and stops.

    Our own one is started with the first work and lasts to the end of the block, with its actors and all that they have imported:
    that takes longer than some stages do. Of somebody else's nothing is kept while we rest.
    """

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self._own: Path | None = None  # folder of our own cluster
        self._guard: subprocess.Popen | None = None
        self._entered = False
        self.actors: list[Actor] = []
        self.turn = 0  # number of the last job

    def __enter__(self) -> RayCluster:
        if problems := executor_problems(self.runtime):
            raise StageError(problems[0])
        return self

    def start(self) -> None:
        """Connect to the cluster, or start one, where that has not been done."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # for a cluster of our own: Ray would run its workers behind all else on the machine
        own = self.runtime.ray_address is None
        if own:  # Ray ends this process so long after a head has died, even where the next one is at work; `nodes` notices it by itself
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(NEVER))
        if own and "RAY_AUTH_MODE" not in os.environ:  # nobody else on this machine may use it; Ray looks when it is imported
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        if ray.is_initialized():
            return
        for attempts_left in reversed(range(ATTEMPTS if own else 1)):
            try:
                self._init(own)
                break
            except BaseException as found:
                self.stop()
                error = unwrapped(found)
                if not isinstance(error, Exception):
                    raise error from None
                if not attempts_left:
                    said = next(iter(str(error).strip().splitlines()), type(error).__name__)
                    raise StageError(f"Ray {'on this machine' if own else f'at {self.runtime.ray_address}'} cannot be used: {said}") from error
        with contextlib.suppress(AttributeError):  # what ends a worker is told here, in one line; Ray would print a page to standard output
            ray._private.worker._worker_logs_enabled = False

    def _init(self, own: bool) -> None:
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if own:
            self._own = Path(tempfile.mkdtemp(prefix="tfwsss-ray-", dir="/tmp" if len(tempfile.gettempdir()) > 30 else None))  # sockets need short paths
            options |= {"num_cpus": usable_cores(), "object_store_memory": OBJECT_STORE, "include_dashboard": False, "_temp_dir": str(self._own), "_node_ip_address": LOOPBACK}
        handlers = {number: signal.getsignal(number) for number in ENDING}
        self._entered = True
        if self._own is not None:
            self._guard = start_guard(self._own)
        try:
            with _loopback_kept() if own else contextlib.nullcontext():
                ray.init(address=self.runtime.ray_address or "local", **options)
            if own and (there := self.nodes()[0]["NodeManagerAddress"]) != LOOPBACK:
                raise StageError(f"it would listen on {there}, where other machines reach it")
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():  # Ray sets its own
                    if handler is not None:
                        signal.signal(number, handler)

    def __exit__(self, *error) -> None:
        self.stop()

    def stop(self) -> None:
        """End our actors, and the cluster if it is ours."""
        for actor in self.actors:
            actor.kill()
        self.actors = []
        if self._entered:
            import ray

            ray.shutdown()
            self._entered = False
        if self._guard is not None:
            self._guard.communicate(FAREWELL)  # it removes the folder, too
            self._guard = None
        elif self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        self._own = None

    def rest(self) -> None:
        if self._own is None:
            self.stop()
            return
        for actor in list(self.actors):
            if actor.calls or actor.place.gpus:  # at work for nobody; TensorFlow keeps a GPU's memory as long as its process lives
                actor.kill()
                self.actors.remove(actor)
            else:
                actor.let_go(self.turn)

    def restart(self) -> bool:
        """Start our own cluster again after its death; False: it is not ours."""
        if self._own is None:
            return False
        self.stop()
        self.start()
        return True

    def nodes(self) -> list[dict]:
        """The machines that are alive, as Ray describes them; none where a cluster of ours has died."""
        answer: Future[list[dict]] = Future()
        # Nobody may answer, for ever.
        threading.Thread(target=_ask, args=(answer,), daemon=True).start()
        while not self._is_dead():
            wait([answer], timeout=1.0)
            if answer.done():
                return [node for node in answer.result() if node["Alive"]]
        return []

    def _is_dead(self) -> bool:
        import ray

        node = ray._private.worker._global_node if self._own is not None else None
        return node is not None and not NEEDED.isdisjoint(name for name, _ in node.dead_processes())

    def results(self, items: Sequence[Item], job: Job, timing: Timing, done: Callable[[Item], bool]) -> Iterator[Any]:
        self.start()
        return self._results(items, job, timing, done)

    def _results(self, items: Sequence[Item], job: Job, timing: Timing, done: Callable[[Item], bool]) -> Iterator[Any]:
        mark = job.folder / f".tfwsss-{uuid.uuid4().hex}.tmp"  # a name that is removed if we cannot
        mark.touch()
        try:
            yield from Distribution(self, items, job, timing, done, mark)
        except SystemError as error:
            raise unwrapped(error) from None
        finally:
            mark.unlink(missing_ok=True)

    def detail(self, timing: Timing) -> str:
        ready = sum(actor.beginning is None for actor in self.actors)
        return ", ".join(filter(None, (timing.shares(), f"{ready} workers")))
