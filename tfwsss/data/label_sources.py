"""Where training labels come from: the label maps a stage has left in a folder, or masks that a person drew.

A source says which of the photos it has no label for, and gives the label map of the others. The input pipelines
(`tfwsss.data.inputs`) know nothing else of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tfwsss.data.dataset import Dataset, Sample
from tfwsss.errors import DataError
from tfwsss.storage import artifacts


class LabelSource(Protocol):
    """Label maps of photos."""

    def require(self, dataset: Dataset, suffix: str = ".png") -> None:
        """Raises DataError when a photo of the data set has no label; `suffix` is of files that a stage has made."""

    def strong(self, sample: Sample) -> bool:
        """Whether the photo's label is a mask that a person drew."""

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> np.ndarray:
        """The label map of a photo of this (height, width): [H, W] uint8, 0 background, k+1 class k, 255 ignore.

        Raises:
            DataError: it has another size, or cannot be read.
        """


@dataclass(frozen=True)
class LabelFolder:
    """What an earlier stage made: `<folder>/<id>.png`, see `tfwsss.storage.artifacts`; or scores, `<folder>/<id>.npz`."""

    folder: Path

    def require(self, dataset: Dataset, suffix: str = ".png") -> None:
        missing = [s.id for s in dataset.samples if not artifacts.artifact_path(self.folder, s.id, suffix).is_file()]
        if missing:
            path = artifacts.artifact_path(self.folder, missing[0], suffix)
            raise DataError(f"{len(missing)} of {len(dataset.samples)} photos have no label file, the first is {path}")

    def strong(self, sample: Sample) -> bool:
        return False

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> np.ndarray:
        label = artifacts.load_label(self.folder, sample.id)
        check_size(artifacts.artifact_path(self.folder, sample.id, ".png"), label.shape, shape)
        return label

    def scores(self, sample: Sample, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(classes, low, high) of a photo of this (height, width), see `tfwsss.storage.artifacts.load_scores`."""
        classes, low, high = artifacts.load_scores(self.folder, sample.id)
        check_size(artifacts.artifact_path(self.folder, sample.id, ".npz"), low.shape[1:], shape)
        return classes, low, high


@dataclass(frozen=True)
class StrongMasks:
    """The masks of `data.strong_masks`.

    Attributes:
        dataset: gives them.
        ids: of the photos that have one, so that `require` need not read them.
    """

    dataset: Dataset
    ids: frozenset[str]

    def require(self, dataset: Dataset, suffix: str = ".png") -> None:
        missing = [sample.id for sample in dataset.samples if sample.id not in self.ids]
        if missing:
            raise DataError(f"{len(missing)} of {len(dataset.samples)} photos have no strong mask, the first is {missing[0]}")

    def strong(self, sample: Sample) -> bool:
        return True

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> np.ndarray:
        mask = self.dataset.strong_mask(sample)
        if mask is None:
            raise DataError(f"{sample.id}: has no strong mask")
        check_size(f"strong mask of {sample.id}", mask.shape, shape)
        return mask


@dataclass(frozen=True)
class MixedLabels:
    """The mask of a photo that has one, and what a stage has made of the others."""

    masks: StrongMasks
    made: LabelFolder

    def require(self, dataset: Dataset, suffix: str = ".png") -> None:
        self.made.require(dataset.subset(sample.id for sample in dataset.samples if not self.strong(sample)), suffix)

    def strong(self, sample: Sample) -> bool:
        return sample.id in self.masks.ids

    def __call__(self, sample: Sample, shape: tuple[int, int]) -> np.ndarray:
        return self.masks(sample, shape) if self.strong(sample) else self.made(sample, shape)

    def scores(self, sample: Sample, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `LabelFolder.scores`, of a photo without a mask."""
        return self.made.scores(sample, shape)


def check_size(name, found: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Refuse a label map of another size than its photo.

    Raises:
        DataError: it names the label.
    """
    if tuple(found) != tuple(expected):
        raise DataError(f"{name}: expected the photo's size {tuple(expected)} (height, width), found {tuple(found)}")
