"""Masks of one split against its photos and tags: what is in them, and which cannot be scored with."""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfwsss.data.check import Inspection, Problem
from tfwsss.data.dataset import Dataset, MaskFolder, Sample
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

UNREADABLE, OTHER_SIZE, UNKNOWN_VALUES = "mask that cannot be read", "mask of another size", "mask values that stand for no class"


@dataclass(frozen=True)
class MaskReport:
    """Masks of one split against its photos and tags.

    Attributes:
        masks: number of photos that have one.
        tagged_not_drawn: for each class, photos with the tag whose mask does not show it.
        drawn_not_tagged: for each class, photos whose mask shows it but that lack the tag.
        ignored: part of the pixels that is 255, 0..1.
    """

    masks: int
    tagged_not_drawn: dict[str, int]
    drawn_not_tagged: dict[str, int]
    ignored: float


@dataclass
class MaskFindings:
    """What looking at every mask has shown.

    Attributes:
        report: the tables.
        missing: ids of photos without a mask.
        problems: kind of fault (one of the three constants above) -> photos, with the reason.
        disagreeing: number of masks that show other classes than the tags.
    """

    report: MaskReport
    missing: list[str] = field(default_factory=list)
    problems: dict[str, list[Problem]] = field(default_factory=lambda: defaultdict(list))
    disagreeing: int = 0

    @property
    def unusable(self) -> list[Problem]:
        """Masks that nothing can be scored with; values that stand for no class are ignored pixels."""
        return [*self.problems[UNREADABLE], *self.problems[OTHER_SIZE]]


def _look(dataset: Dataset, sample: Sample):
    try:
        mask = dataset.mask(sample)
        if mask is None:
            return None
        unknown = dataset.masks.unknown_values(sample) if isinstance(dataset.masks, MaskFolder) else ()
        return mask.shape, np.bincount(mask.ravel(), minlength=256), unknown
    except DataError as error:
        return str(error)


def _place(dataset: Dataset, sample: Sample) -> Path:
    return dataset.masks.path(sample) if isinstance(dataset.masks, MaskFolder) else getattr(dataset.masks, "path", None) or sample.image


def examine_masks(dataset: Dataset, found: list[Inspection]) -> MaskFindings | None:
    """Read every mask of a data set that has masks.

    Args:
        dataset: with masks; without, there is nothing to find.
        found: of its photos.
    """
    if dataset.masks is None:
        return None
    dataset = dataset.at_full_size()
    missing, problems, shown = [], defaultdict(list), {}
    ignored = pixels = 0
    with ThreadPoolExecutor(2) as pool:  # Pillow decodes without holding the interpreter
        seen = pool.map(lambda sample: _look(dataset, sample), dataset.samples)
        for sample, photo, mask in zip(dataset.samples, found, seen, strict=True):
            if mask is None:
                missing.append(sample.id)
                continue
            path = _place(dataset, sample)
            if isinstance(mask, str):
                problems[UNREADABLE].append(Problem(sample.id, path, mask))
                continue
            shape, counts, unknown = mask
            if photo.height and shape != (photo.height, photo.width):
                problems[OTHER_SIZE].append(Problem(sample.id, path, f"{shape[1]}x{shape[0]}, photo {photo.width}x{photo.height}"))
            if unknown:
                problems[UNKNOWN_VALUES].append(Problem(sample.id, path, ", ".join(map(str, unknown))))
            shown[sample.id] = frozenset(np.flatnonzero(counts[1:IGNORE]).tolist())
            ignored += int(counts[IGNORE])
            pixels += int(counts.sum())
    not_drawn, not_tagged, disagreeing = Counter[int](), Counter[int](), 0
    for sample in dataset.samples:
        if sample.id in shown:
            tags = {*sample.tags}
            untagged = shown[sample.id] - tags - {*sample.unknown}
            not_drawn.update(tags - shown[sample.id])
            not_tagged.update(untagged)
            disagreeing += bool(untagged or tags - shown[sample.id])
    report = MaskReport(
        masks=len(shown),
        tagged_not_drawn={name: not_drawn[index] for index, name in enumerate(dataset.classes)},
        drawn_not_tagged={name: not_tagged[index] for index, name in enumerate(dataset.classes)},
        ignored=ignored / max(pixels, 1),
    )
    return MaskFindings(report, missing, problems, disagreeing)
