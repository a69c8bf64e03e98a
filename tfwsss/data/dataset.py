"""What every reader delivers: photos with tags, and, for scoring only, masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tfwsss.config.data import Orientation
from tfwsss.data.image import read_image, read_mask, read_picture, reduced, reduced_size, with_nearest
from tfwsss.data.names import existing
from tfwsss.errors import DataError, ImageError
from tfwsss.storage.artifacts import IGNORE

BACKGROUND = "background"  # name of label 0 in tables and exports


@dataclass(frozen=True)
class Sample:
    """One photo.

    Attributes:
        id: unique in the data set; the relative path of its artefacts, without suffix.
        image: path of the photo; it may be missing or damaged (`tfwsss.data.check` finds out).
        tags: indices into the data set's classes, ascending, without background; () when the photo has no tag.
        unknown: of the classes that may be on the photo or not, ascending; all others that are not among the tags are absent.
        group: photos of one group (a patient, a scene, copies) belong to one split; "": it is its own.
    """

    id: str
    image: Path
    tags: tuple[int, ...]
    unknown: tuple[int, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Photos of one split.

    Attributes:
        classes: class names without background.
        samples: the photos, ids unique.
        masks: gives a sample's label map [H, W] uint8 (0 background, k+1 class k, 255 ignore), or None where the
            data set has none. Only scoring may call it.
        strong_masks: the same of the masks that training may learn from (`data.strong_masks`), or None.
        max_megapixels: photos and masks whose header announces more are refused.
        long_side: photos with a longer side, and their masks, are made smaller as they are read; None: none is.
        orientation: see `tfwsss.config.data.DataSection`; trainings turn photos of "any" orientation.
        unknown_tags: (tag, number of photos) for tags that are not among `classes` and were dropped.
        unscored: ids of photos whose mask cannot be used; they count as photos without one.
        remarks: what else the reader took otherwise than it stands in the files, one line each.
    """

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    masks: Callable[[Sample], np.ndarray | None] | None = None
    max_megapixels: float = 50.0
    unknown_tags: tuple[tuple[str, int], ...] = ()
    strong_masks: Callable[[Sample], np.ndarray | None] | None = None
    remarks: tuple[str, ...] = ()
    unscored: frozenset[str] = frozenset()
    long_side: int | None = None
    orientation: Orientation = "upright"

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_classes(self) -> int:
        """Number of classes without background."""
        return len(self.classes)

    def tag_matrix(self) -> np.ndarray:
        """Multi-hot tags, [N, num_classes] float32, rows in the order of `samples`."""
        matrix = np.zeros((len(self.samples), self.num_classes), np.float32)
        for row, sample in enumerate(self.samples):
            matrix[row, list(sample.tags)] = 1.0
        return matrix

    def known_matrix(self) -> np.ndarray:
        """Which tags are known, [N, num_classes] float32 of 0 and 1, rows as in `tag_matrix`, which has 0 for the unknown ones."""
        matrix = np.ones((len(self.samples), self.num_classes), np.float32)
        for row, sample in enumerate(self.samples):
            matrix[row, list(sample.unknown)] = 0.0
        return matrix

    def read(self, sample: Sample) -> np.ndarray:
        """The photo, [H, W, 3] uint8 RGB.

        Raises:
            ImageError: see `tfwsss.data.image.read_image`.
        """
        return read_image(sample.image, self.max_megapixels) if self.long_side is None else np.array(self.picture(sample))

    def picture(self, sample: Sample) -> Image.Image:
        """The photo as a picture of Pillow, mode RGB, for who resizes it anyway.

        Raises:
            ImageError: see `tfwsss.data.image.read_image`.
        """
        return reduced(read_picture(sample.image, self.max_megapixels), self.long_side)

    def mask(self, sample: Sample) -> np.ndarray | None:
        """The label map, [H, W] uint8, or None where there is none.

        Raises:
            ImageError: the mask's file is damaged or no label map.
        """
        return None if self.masks is None or sample.id in self.unscored else self._reduced(self.masks(sample))

    def strong_mask(self, sample: Sample) -> np.ndarray | None:
        """The label map that training may learn from, [H, W] uint8, or None where there is none.

        Raises:
            ImageError: the mask's file is damaged or no label map.
        """
        return None if self.strong_masks is None else self._reduced(self.strong_masks(sample))

    def _reduced(self, mask: np.ndarray | None) -> np.ndarray | None:
        return None if mask is None else with_nearest(mask, reduced_size(mask.shape[0], mask.shape[1], self.long_side))

    def at_full_size(self) -> Dataset:
        """The same data set, with photos and masks as large as their files have them."""
        return dataclasses.replace(self, long_side=None)

    def without_masks(self) -> Dataset:
        """The same photos, tags and strong masks; `mask` gives None. What training gets."""
        return dataclasses.replace(self, masks=None)

    def subset(self, ids: Iterable[str]) -> Dataset:
        """Only the photos with these ids, in this data set's order.

        Raises:
            DataError: an id is not in the data set.
        """
        wanted = set(ids)
        kept = tuple(sample for sample in self.samples if sample.id in wanted)
        if len(kept) < len(wanted):
            absent = sorted(wanted - {sample.id for sample in kept})
            raise DataError(f"{len(absent)} of {len(wanted)} ids are not in the data set, the first is {absent[0]!r}")
        return dataclasses.replace(self, samples=kept)


@dataclass(frozen=True)
class MaskFolder:
    """Indexed masks `<folder>/<id>.png`; callable as `Dataset.masks`.

    Attributes:
        folder: where they are.
        labels: label of each mask value that may occur, as (value, label) pairs; other values become ignore.
        max_megapixels: as in `Dataset`.
        only: ids of the samples whose masks count; None: all that have one.
    """

    folder: Path
    labels: tuple[tuple[int, int], ...]
    max_megapixels: float = 50.0
    only: frozenset[str] | None = None

    def path(self, sample: Sample) -> Path:
        """Where the sample's mask is, or would be."""
        return existing(self.folder / f"{sample.id}.png")

    def counts(self, sample: Sample) -> bool:
        """Whether the sample's mask counts, if it has one."""
        return self.only is None or sample.id in self.only

    def __call__(self, sample: Sample) -> np.ndarray | None:
        """[H, W] uint8 with the data set's labels; None when the file does not exist or does not count."""
        path = self.path(sample)
        try:
            if not self.counts(sample) or not path.is_file():
                return None
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
        table = np.full(256, IGNORE, np.uint8)
        for value, label in self.labels:
            table[value] = label
        return table[read_mask(path, self.max_megapixels)]

    def unknown_values(self, sample: Sample) -> tuple[int, ...]:
        """Values in the sample's mask that stand for nothing in this data set, ascending."""
        found = set(np.unique(read_mask(self.path(sample), self.max_megapixels)).tolist())
        return tuple(sorted(found - {value for value, _ in self.labels} - {IGNORE}))


def class_positions(classes: Iterable[str]) -> dict[str, int]:
    """Index of each class name.

    Raises:
        DataError: a name occurs twice, is empty or that of the background, or there is none.
    """
    names = tuple(classes)
    for name in names:
        if name.strip() != name or not name:
            raise DataError(f"data.classes: {name!r} is empty or begins or ends with a blank, as no tag does")
        if name == BACKGROUND:
            raise DataError(f"class {name!r}: this is what label 0 is called; photos of it get no tag, with data.untagged: background")
    positions = {name: index for index, name in enumerate(names)}
    if len(positions) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"data.classes: {', '.join(twice)} given more than once")
    if not names:
        raise DataError("the data set has no classes: no photo has a tag")
    if len(names) > IGNORE - 1:
        raise DataError(f"{len(names)} classes, expected at most {IGNORE - 1}: labels are 8 bits and 255 means ignore")
    return positions
