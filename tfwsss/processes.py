"""Worker processes: in order with bounded memory (drawing), or surviving the death of a process (decoding)."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

QUEUE_PER_WORKER = 4
CHUNK = 16  # calls that one task of `isolated_map` makes


Result = TypeVar("Result")


def usable_cores() -> int:
    """Processor cores this process may use: fewer than `os.cpu_count()` in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):  # macOS has no affinity
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(configured: int) -> int:
    """`runtime.workers`, where 0 means one per core this process may use."""
    return configured or usable_cores()


def exit_with_parent() -> None:
    """End this worker when its parent is gone: a killed parent closes nothing, and its workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a process forked from one that has started TensorFlow's threads can hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), exit_with_parent)


def map_in_processes(function: Callable, arguments: Iterable[tuple], workers: int) -> Iterator:
    """Yield ``function(*args)`` for each args, in order.

    Args:
        function: importable by name; its module must not import TensorFlow, which every worker would load.
        arguments: consumed only a few items ahead of the results, so it may produce large arrays.
        workers: number of processes.
    """
    with _pool(workers) as pool:
        waiting: deque = deque()
        try:
            for args in arguments:
                waiting.append(pool.submit(function, *args))
                if len(waiting) >= workers * QUEUE_PER_WORKER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _run_chunk(function, chunk):
    return [function(*task) for task in chunk]


def isolated_map(function: Callable[..., Result], tasks: list[tuple], workers: int) -> Iterator[tuple[int, Result | None]]:
    """Yield (index, function(*task)) in any order; None for a task whose process died (a crash in native code).

    With one worker, or few tasks, everything runs in this process.
    """
    workers = min(workers, -(-len(tasks) // CHUNK))
    if workers <= 1:
        for index, task in enumerate(tasks):
            yield index, function(*task)
        return
    chunks = [range(start, min(start + CHUNK, len(tasks))) for start in range(0, len(tasks), CHUNK)]
    waiting = set(range(len(chunks)))
    with _pool(workers) as pool:
        try:
            numbers = {pool.submit(_run_chunk, function, [tasks[i] for i in c]): n for n, c in enumerate(chunks)}
            pending = set(numbers)
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    results = future.result()
                    waiting.discard(numbers[future])
                    yield from zip(chunks[numbers[future]], results, strict=True)
        except BrokenProcessPool:
            pass  # one process died and took the pool with it: what is left goes on below
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    yield from _one_by_one(function, tasks, [index for number in sorted(waiting) for index in chunks[number]])


def _one_by_one(function: Callable[..., Result], tasks: list[tuple], left: list[int]) -> Iterator[tuple[int, Result | None]]:
    # A broken pool does not say whose task broke it; with one task in flight it is clear.
    while left:
        with _pool(1) as pool:
            while left:
                index = left.pop(0)
                try:
                    yield index, pool.submit(function, *tasks[index]).result()
                except BrokenProcessPool:
                    yield index, None
                    break
