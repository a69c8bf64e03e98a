"""What a run will write, estimated, against what the disk has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfwsss.config import Config
from tfwsss.config.networks import MILLIONS_OF_PARAMETERS

from .inputs import TRAININGS, tracking_store

LABEL = 0.03  # bytes a pixel in a PNG file of labels or of the audit's confidences; five of them a photo
FILES = 6_000  # bytes a photo: headers and palettes of its files
CELL = 8  # pixels of the walk's grid
REST = 20_000_000  # bytes: report, tables, a small MLflow store
SLOTS = {"sgd": 1, "adam": 2}  # numbers that an optimiser keeps for each parameter


class Photo(NamedTuple):
    """A training photo: its pixels, and how many classes it is tagged with."""

    pixels: int
    tags: int


def maps(config: Config, photos: Iterable[Photo]) -> float:
    """Bytes of the files with one entry a training photo: maps, labels, walks."""
    cells = sum(scale**2 for scale in config.cams.scales) / config.classifier.model.output_stride**2  # a map for each scale, at the network's stride
    cam = {"float16": 2, "float32": 4}[config.cams.dtype] * cells
    total = 0.0
    for pixels, tags in photos:
        walk = 4 * (1 + tags) / CELL**2
        scores = 2 * (1 + tags) if config.affinitynet.label_source == "scores" else 0  # two times float16, compressed to half
        seen = pixels if config.cams.long_side is None else config.cams.long_side**2  # by the classifier at scale 1; a square photo has the most
        total += seen * cam * tags + pixels * (walk + scores + 5 * LABEL) + FILES
    return total


def networks(config: Config) -> float:
    """Bytes of trained networks, of the largest checkpoint with its successor, and of exports."""
    sizes, checkpoints = {}, []
    for name in TRAININGS:
        settings = getattr(config, name)
        sizes[name] = 4e6 * MILLIONS_OF_PARAMETERS[settings.model.backbone] * settings.model.width**2
        checkpoints.append(2 * sizes[name] * (1 + SLOTS[settings.optimizer.name] + (getattr(settings, "ema", None) is not None)))
    kinds = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}
    exports = sizes["segmenter"] * (1 + sum(kinds[precision] for precision in config.export.precisions))
    return sum(sizes.values()) + max(checkpoints) + exports


def needed(config: Config, photos: Iterable[Photo]) -> float:
    """Bytes of everything that a whole run keeps below its work directory, and of what a store of MLflow's on this machine gets a copy of."""
    kept = networks(config)
    labelled = maps(config, photos) if config.segmenter.labels == "pseudo" else 0.0
    return labelled + kept * (2 if tracking_store() is not None else 1) + REST


def space_warnings(config: Config, photos: list[Photo], folders: list[Path]) -> list[str]:
    """A line where the disk of the work directory has less than the run is likely to need.

    Args:
        config: of the run.
        photos: those to train on.
        folders: of the run; what they hold already is not needed again.
    """
    work = Path(config.work_dir).resolve()
    free = shutil.disk_usage(next(place for place in (work, *work.parents) if place.is_dir())).free
    need = needed(config, photos) - sum(map(_held, folders))
    return [f"{work}: {free / 1e9:.3g} GB free, the run needs about {need / 1e9:.2g} GB"] if free < need else []


def _held(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:  # it went away meanwhile
                continue
    return total
