"""Per-photo work inside a stage: with a progress bar that says where the time goes, and the same numbers in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfwsss.config import Config, Runtime
from tfwsss.storage.artifacts import artifact_path

from ..engine.context import Context, NoRun
from ..engine.progress import progress_bar
from ..engine.sharing import HasId
from ..engine.sharing import Item as Named
from ..engine.startup import load_tensorflow
from ..executors.executor import executor
from ..executors.timing import Timing
from ..executors.work import Item, Result, Work

_contexts: dict[str, Context] = {}  # the last one that this process has worked for, by its token


class Files(NamedTuple):
    """The files <folder>/<id><suffix>, of which each says that a photo is done."""

    folder: Path
    suffix: str

    def has(self, item: HasId) -> bool:
        return artifact_path(self.folder, item.id, self.suffix).is_file()


@dataclass(frozen=True)
class StageJob:
    """What one call of `each_photo` has to do, as data: the process that does it makes a context of its own."""

    config: Config
    folder: Path
    before: tuple[str, ...]
    token: str
    steps: Callable[[Context, Timing], Work]
    network: bool

    def work(self, timing: Timing) -> Work:
        if self.token not in _contexts:  # in another process, once for each stage
            _contexts.clear()
            _contexts[self.token] = Context(self.config, self.folder, NoRun(), before=self.before, token=self.token)
        if self.network:
            load_tensorflow()
            from tfwsss.training.loop import make_deterministic

            make_deterministic(self.config.seed)
        return self.steps(_contexts[self.token], timing)

    def devices(self) -> tuple[str, ...]:
        return device_names(self.config.runtime) if self.network else ()


def unfinished(context: Context, items: Sequence[Named], files: Files) -> list[Named]:
    """The photos whose file is missing; of a shard only its own."""
    missing = [item for item in items if not files.has(item)]
    return missing if context.share is None else context.share.take(missing)


def each_photo(
    context: Context,
    title: str,
    items: Sequence[Item],
    steps: Callable[[Context, Timing], Work[Item, Any, Any, Result]],
    *,
    network: bool = False,
    files: Files | None = None,
) -> Iterator[Result]:
    """Do the work for every item and yield the results in order.

    Args:
        context: of the stage.
        title: of the progress bar, and part of the metrics' names.
        items: the photos that are not done yet.
        steps: gives the work, which measures itself with the timing: a function of a module, perhaps with arguments bound by
            functools.partial, so that another process can call it, too.
        network: whether the work runs a network.
        files: which of them says that a photo is done; None: the result is what `finish` gives, and not None.

    Raises:
        PhotosLost: at the end, photos that killed the processes that worked on them.
    """
    if not items:
        return
    runtime, timing = context.config.runtime, Timing()
    _contexts.clear()
    _contexts[context.token] = context
    job = StageJob(context.config, context.work, context.before, context.token, steps, network)
    workers = context.kept(executor)
    done = files.has if files is not None else lambda item: False
    results = workers.results(items, job, timing, done)  # before the bar: a cluster or TensorFlow may have to start
    with progress_bar(title, len(items), runtime.progress, lambda: workers.detail(timing)) as bar:
        for result in results:
            bar.advance()
            yield result
    if context.run is not None:
        name = title.replace("+", "and")  # MLflow allows few characters
        context.run.metrics({f"seconds/{name}/{kind}": seconds for kind, seconds in timing.seconds().items()})


def device_names(runtime: Runtime) -> tuple[str, ...]:
    """All local GPUs, or the processor: names for tf.device."""
    import tensorflow as tf

    if runtime.inference == "onnxruntime":
        return ("/CPU:0",)

    return tuple(device.name for device in tf.config.list_logical_devices("GPU")) or ("/CPU:0",)


def batch_size(context: Context) -> int:
    """Photos of one size that a device gets together, see `runtime.photo_batch`."""
    wanted = context.config.runtime.photo_batch
    return wanted or (8 if device_names(context.config.runtime) != ("/CPU:0",) else 1)


def filled(photos: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """One array of `batch` photos, the last one repeated: which photos happen to be ready must not change a result, and
    kernels round differently for other batch sizes."""
    return np.stack([*photos, *[photos[-1]] * (batch - len(photos))])
