"""Photos with their label maps on the way to and from annotation tools, and what tools call labels and photos."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfwsss.data.dataset import BACKGROUND, Sample
from tfwsss.data.image import image_size
from tfwsss.data.names import normal
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

IGNORED = "ignore"  # name of label 255 in tools
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo to be exported.

    Attributes:
        name: what tools call it: its id and the suffix of its file, "/" between folders.
        image: its file.
        confidence: 0..1.
        classes: confidence of each class index that is known.
        label: [H, W] uint8: 0 background, k+1 class k, 255 ignore.
        split: "train", or "val".
    """

    name: str
    image: Path
    confidence: float
    classes: dict[int, float]
    label: np.ndarray
    split: str = "train"

    @property
    def id(self) -> str:
        """Of the photo in its data set."""
        return self.name.removesuffix(self.image.suffix)

    def regions(self, names: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray, float]]:
        """(name, mask [H, W] bool, confidence) of every class in the label, and of what is ignored."""
        for value in np.unique(self.label).tolist():
            if value == IGNORE:
                yield IGNORED, self.label == value, self.confidence
            elif value:
                yield names[value - 1], self.label == value, self.classes.get(value - 1, self.confidence)


@dataclass(frozen=True)
class Corrected:
    """One photo of an imported file.

    Attributes:
        sample: the photo of the data set that is meant.
        label: as in `LabelledPhoto`.
        where: for messages.
    """

    sample: Sample
    label: np.ndarray
    where: str


Take = Callable[[Corrected], None]  # called with every photo of an imported file, so that they need not be in memory at once
Writer = Callable[[Iterable[LabelledPhoto], tuple[str, ...], Path], None]


@dataclass(frozen=True)
class Tool:
    """A form of exchange.

    Attributes:
        name: of `--to`.
        output: name of the file or folder that is written.
        write: takes the photos, the class names and the path, which does not exist yet.
        photos: whether what is written holds copies of the photos.
    """

    name: str
    output: str
    write: Writer
    photos: bool = False


def tool_name(sample: Sample) -> str:
    """See `LabelledPhoto.name`."""
    return sample.id + sample.image.suffix


def require_names(classes: tuple[str, ...]) -> None:
    """Raises:
    DataError: a class is called like ignored pixels are.
    """
    if IGNORED in classes:
        raise DataError(f"class {IGNORED!r}: in exchanged labels this is what ignored pixels are called")


def require_xml_text(texts: Iterable[str]) -> None:
    """Raises:
    DataError: a text has characters that XML cannot hold.
    """
    for text in texts:
        if _NOT_IN_XML.search(text):
            raise DataError(f"{text!r}: has characters that XML cannot hold; rename it")


def value_of(name: str, classes: tuple[str, ...], where: str) -> int:
    """Label value of what a tool calls so.

    Raises:
        DataError: it is none of the classes.
    """
    name = normal(name.strip())
    known = {BACKGROUND: 0, IGNORED: IGNORE} | {one: index + 1 for index, one in enumerate(classes)}
    if name not in known:
        raise DataError(f"{where}: label {name!r} is no class, expected {', '.join(known)}")
    return known[name]


class Photos:
    """The training photos that an annotation may mean, by id or by the end of it.

    Args:
        samples: of the data set.
        max_megapixels: larger ones are refused.
    """

    def __init__(self, samples: Collection[Sample], max_megapixels: float):
        self.max_megapixels = max_megapixels
        self._ids = {sample.id: sample for sample in samples}
        self._names: dict[str, list[Sample]] = {}
        for sample in samples:
            self._names.setdefault(sample.id.rsplit("/", 1)[-1], []).append(sample)
        self._seen: dict[str, str] = {}

    def find(self, text: str, where: str, others: tuple[str, ...] = ()) -> Sample:
        """The photo that is called so, with or without its suffix, or whose id's end is.

        Args:
            text: path of a photo in the tool, "/" or "\\\\" between folders.
            where: for messages.
            others: other paths that it may be called by.

        Raises:
            DataError: it is no training photo, may be one of several, or stands there a second time.
        """
        for name in (text, *others):
            found = self._fitting(normal(name.replace("\\", "/")).strip("/"))
            if len(found) > 1:
                raise DataError(f"{where}: {text!r} may be {found[0].id!r} or {found[1].id!r}")
            if found:
                [sample] = found
                if sample.id in self._seen:
                    raise DataError(f"{where}: is photo {sample.id!r}, as {self._seen[sample.id]} is")
                self._seen[sample.id] = where
                return sample
        raise DataError(f"{where}: {text!r} is none of the {len(self._ids)} training photos")

    def _fitting(self, name: str) -> list[Sample]:
        stem = name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name
        for exact in (stem, name):
            if exact in self._ids:
                return [self._ids[exact]]
        parts = stem.split("/")
        near = self._names.get(parts[-1], [])
        # In a tool, photos lie in other folders: below one of its own, or in none.
        return [one for one in near if f"/{stem}".endswith(f"/{one.id}") or f"/{one.id}".endswith(f"/{stem}")]

    def canvas(self, sample: Sample, width, height, where: str) -> np.ndarray:
        """An empty label map of the photo's size, [H, W] uint8.

        Args:
            sample: the photo.
            width, height: as the tool's file gives them, numbers or text.
            where: for messages.

        Raises:
            DataError: the photo cannot be read or has another size.
        """
        size = image_size(sample.image)
        if [str(height), str(width)] != [str(size[0]), str(size[1])]:
            raise DataError(f"{where}: has {width}x{height} px, expected the photo's {size[1]}x{size[0]}")
        if size[0] * size[1] / 1e6 > self.max_megapixels:
            raise DataError(f"{where}: {size[1]}x{size[0]} px, the limit is {self.max_megapixels:.4g} megapixels")
        return np.zeros(size, np.uint8)

    def empty(self, sample: Sample) -> np.ndarray:
        """As `canvas`, where the file gives no size."""
        height, width = image_size(sample.image)
        return self.canvas(sample, width, height, sample.id)
