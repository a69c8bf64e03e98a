"""Dense CRFs in a stage: the engine made ready before the progress bar, and photos side by side in what the engine can use."""

from collections.abc import Callable, Iterable, Iterator

from tfwsss.config import Crf
from tfwsss.crf import compile_engine
from tfwsss.processes import map_in_processes, map_in_threads, worker_count

from ..engine.progress import console


def prepare_crf(crf: Crf | None) -> None:
    """Compile the engine where this was not done on this machine before, and tell the user."""
    if crf is None:
        return
    with console.status("  compiling the dense CRF, once per installation"):
        seconds = compile_engine(crf.engine)
    if seconds:
        console.print(f"  dense CRF compiled in {seconds:.0f} s, once per installation")


def map_photos(function: Callable, arguments: Iterable[tuple], workers: int, crf: Crf | None) -> Iterator:
    """Yield ``function(*args)`` for each args, in order: one photo with its dense CRF.

    Args:
        function: importable by name; its module must not import TensorFlow.
        arguments: consumed only a few items ahead of the results.
        workers: `runtime.workers`.
        crf: decides between threads and processes: pydensecrf holds Python's global lock.
    """
    run = map_in_processes if crf is not None and crf.engine == "pydensecrf" else map_in_threads
    return run(function, arguments, worker_count(workers))
