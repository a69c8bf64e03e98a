"""Per-photo work inside a stage: with a progress bar that says where the time goes, and the same numbers in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfwsss.processes import worker_count

from ..engine.context import Context
from ..engine.progress import progress_bar
from .engine import run_images
from .timing import Timing
from .work import Item, Result, Work


def each_photo(context: Context, title: str, items: Sequence[Item], work: Work[Item, Any, Any, Result], timing: Timing) -> Iterator[Result]:
    """Do the work for every item and yield the results in order.

    Args:
        context: of the stage.
        title: of the progress bar, and part of the metrics' names.
        items: the photos that are not done yet.
        work: the steps.
        timing: what the steps measure themselves with.
    """
    devices = device_names(context) if work.on_device is not None else ()
    with progress_bar(title, len(items), context.config.runtime.progress, timing.shares) as bar:
        for result in run_images(items, work, workers=worker_count(context.config.runtime.workers), devices=devices, timing=timing):
            bar.advance()
            yield result
    if items and context.run is not None:
        name = title.replace("+", "and")  # MLflow allows few characters
        context.run.metrics({f"seconds/{name}/{kind}": seconds for kind, seconds in timing.seconds().items()})


def device_names(context: Context) -> tuple[str, ...]:
    """All local GPUs, or the processor: names for tf.device."""
    import tensorflow as tf

    if context.config.runtime.inference == "onnxruntime":
        return ("/CPU:0",)

    return tuple(device.name for device in tf.config.list_logical_devices("GPU")) or ("/CPU:0",)


def batch_size(context: Context) -> int:
    """Photos of one size that a device gets together, see `runtime.photo_batch`."""
    wanted = context.config.runtime.photo_batch
    return wanted or (8 if device_names(context) != ("/CPU:0",) else 1)


def filled(photos: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """One array of `batch` photos, the last one repeated: which photos happen to be ready must not change a result, and
    kernels round differently for other batch sizes."""
    return np.stack([*photos, *[photos[-1]] * (batch - len(photos))])
