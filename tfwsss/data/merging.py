"""Classes that count as one (`data.merge`): codes that nobody has to tell apart, or every defect as "defect"."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfwsss.data.dataset import Dataset, MaskFolder, Sample, class_positions
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

Masks = Callable[[Sample], np.ndarray | None]


@dataclass(frozen=True)
class MergedMasks:
    """The label maps of another source with merged labels; callable as `Dataset.masks`.

    Attributes:
        masks: the source.
        labels: the new label of each of its labels, [C + 1], the background's first.
        path: the file of the source, for messages; None where it has none.
    """

    masks: Masks
    labels: tuple[int, ...]
    path: Path | None

    def __call__(self, sample: Sample) -> np.ndarray | None:
        """[H, W] uint8, or None where the source has none."""
        mask = self.masks(sample)
        if mask is None:
            return None
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.labels)] = self.labels
        return table[mask]


def merge_classes(dataset: Dataset, groups: Mapping[str, Sequence[str]]) -> Dataset:
    """The data set with each group of classes as one class.

    A merged class stands where the first of its members stood; it is on a photo where one of them is, and unknown where
    one of them is unknown and none is there.

    Args:
        groups: {name of the new class: names of its members}.

    Raises:
        DataError: a member is no class of the data set or in two groups, or two classes would have one name.
    """
    known = set(dataset.classes)
    into: dict[str, str] = {}
    for name, members in groups.items():
        for member in members:
            if member not in known:
                raise DataError(f"data.merge.{name}: {member!r} is no class of the data set, which has {', '.join(dataset.classes)}")
            if member in into:
                raise DataError(f"data.merge: {member!r} is a member of {into[member]!r} and of {name!r}")
            into[member] = name
    names = [into.get(name, name) for name in dataset.classes]
    taken = sorted(set(groups) & {name for name in dataset.classes if name not in into})
    if taken:
        raise DataError(f"data.merge.{taken[0]}: a class has this name and is not among the members")
    positions = class_positions(dict.fromkeys(names))
    new = [positions[name] for name in names]
    return dataclasses.replace(
        dataset,
        classes=tuple(positions),
        samples=tuple(_merged_tags(sample, new) for sample in dataset.samples),
        masks=_merged_masks(dataset.masks, new),
        strong_masks=_merged_masks(dataset.strong_masks, new),
    )


def _merged_tags(sample: Sample, new: list[int]) -> Sample:
    tags = {new[tag] for tag in sample.tags}
    unknown = {new[tag] for tag in sample.unknown} - tags
    return dataclasses.replace(sample, tags=tuple(sorted(tags)), unknown=tuple(sorted(unknown)))


def _merged_masks(masks: Masks | None, new: list[int]) -> Masks | None:
    if masks is None:
        return None
    labels = (0, *(index + 1 for index in new))
    if isinstance(masks, MaskFolder):  # stays one: checks look at its files
        return dataclasses.replace(masks, labels=tuple((value, labels[label]) for value, label in masks.labels))
    return MergedMasks(masks, labels, getattr(masks, "path", None))
