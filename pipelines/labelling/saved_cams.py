"""CAMs as the stages after `cams` read them: where the sizes of classes are known, raised to the exponents of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from tfwsss.background import CamHistogram
from tfwsss.errors import DataError
from tfwsss.size_prior import exponent, sized
from tfwsss.storage.artifacts import load_cam
from tfwsss.storage.atomic import read_json, write_json

from ..engine.context import Context
from ..executors.timing import Timing
from ..executors.work import Work
from .photos import each_photo

EXPONENTS = Path("affinity_labels/exponents.json")


class SavedCams:
    """The CAMs of a run's photos."""

    def __init__(self, work: Path):
        path = work / EXPONENTS
        self._exponents = {int(one["index"]): float(one["exponent"]) for one in read_json(path).values()} if path.is_file() else {}

    def load(self, folder: Path, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(classes int32 [K], CAMs float32 [K, H, W] in 0..1 at the photo's size) of <folder>/<image_id>.npz."""
        classes, cam = load_cam(folder, image_id)
        return classes, sized(classes, cam, self._exponents)


def require_classes(shares: Mapping[str, float], classes: Iterable[str]) -> None:
    """Refuse a size for what is no class of the data set.

    Raises:
        DataError: names it.
    """
    known = tuple(classes)
    for name in shares:
        if name not in known:
            raise DataError(f"affinity_labels.shares: {name!r} is no class of the data set, which has {', '.join(known)}")


def write_exponents(context: Context) -> None:
    """Find the exponent of each class whose size is known, from the CAMs of all training photos.

    Raises:
        DataError: a size of what is no class, or of a class without a photo.
    """
    shares, dataset = context.config.affinity_labels.shares or {}, context.dataset("train")
    require_classes(shares, dataset.classes)
    totals = {dataset.classes.index(name): CamHistogram() for name in shares}
    for found in each_photo(context, "sizes of the maps", dataset.samples, _histograms):
        for index, histogram in found:
            if index in totals:
                totals[index].merge(histogram)
    exponents = {}
    for index, total in totals.items():
        name = dataset.classes[index]
        if not total.counts.any():
            raise DataError(f"affinity_labels.shares: no training photo is tagged with {name!r}")
        exponents[name] = {"index": index, "share": shares[name], "exponent": exponent(total, shares[name])}
    write_json(context.work / EXPONENTS, exponents)


def _histograms(context: Context, timing: Timing) -> Work:
    def finish(_, found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, CamHistogram]]:
        return [(int(k), CamHistogram().update(one[np.newaxis])) for k, one in zip(*found, strict=True)]

    return Work(lambda sample: load_cam(context.work / "cams", sample.id), finish)
