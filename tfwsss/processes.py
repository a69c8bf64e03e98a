"""Worker processes for per-image work that holds the GIL (dense CRF, drawing), with bounded memory and results in order."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tfwsss.cores import usable_cores

QUEUE_PER_WORKER = 4


def worker_count(configured: int) -> int:
    """`runtime.workers`, where 0 means one per core this process may use."""
    return configured or usable_cores()


def exit_with_parent() -> None:
    """End this worker when its parent is gone: a killed parent closes nothing, and its workers would wait for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def map_in_processes(function: Callable, arguments: Iterable[tuple], workers: int) -> Iterator:
    """Yield ``function(*args)`` for each args, in order.

    Args:
        function: importable by name; its module must not import TensorFlow, which every worker would load.
        arguments: consumed only a few items ahead of the results, so it may produce large arrays.
        workers: number of processes.
    """
    # Not fork: a forked TensorFlow process hangs.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=exit_with_parent) as pool:
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
