"""Where imported label maps go: what `data.strong_masks` names, a folder of index PNGs or for COCO an instances file.

Everything is collected first and written when all of it is known to be right. A mask that is there and was not written here
is somebody's work: it is only replaced on request. What was written is known by its digest, in `imported.json` of the folder
or under `imported` of the instances file: a mask that was changed since counts as somebody's.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tfwsss.config import CocoData, Data, ScenesData, VocData
from tfwsss.data.dataset import Sample
from tfwsss.data.formats.coco import CocoMasks, category_name, load_instances
from tfwsss.data.formats.voc import CLASSES as VOC_CLASSES
from tfwsss.data.image import read_mask
from tfwsss.data.json_file import load_json
from tfwsss.data.names import existing, photo_id, relative_photo_path
from tfwsss.errors import DataError
from tfwsss.exchange.coco import annotations_of
from tfwsss.exchange.labelled import IGNORED, Corrected, LabelledPhoto, tool_name
from tfwsss.storage.artifacts import IGNORE, artifact_path, voc_palette
from tfwsss.storage.atomic import atomic_path, write_json

MANIFEST, KEY = "imported.json", "imported"
LISTED = 3  # masks that a message names


class Target(Protocol):
    """Collects label maps.

    Attributes:
        value: what `data.strong_masks` must say.
        named: whether the configuration says so already.
        unchanged: photos that have this very mask there already.
    """

    value: str
    named: bool
    unchanged: int

    def add(self, corrected: Corrected) -> None: ...

    def write(self, force: bool) -> int:
        """Write what was added; the number of masks written.

        Raises:
            DataError: a mask there was not written here, and `force` is not given; then nothing is written.
        """
        ...


def strong_target(data: Data, classes: tuple[str, ...], chosen: str | None) -> Target:
    """Where corrected masks of this data set go.

    Args:
        data: the section `data`.
        classes: names of the data set's classes.
        chosen: `--masks`: where the section names no strong masks, what it shall name.

    Raises:
        DataError: neither names a place, they differ, it is one that may not be written to, or classes are merged.
    """
    if isinstance(data, ScenesData):
        raise DataError("data.format scenes: generated scenes have exact masks (data.strong_masks: exact); nothing can be imported")
    if data.merge:
        raise DataError("data.merge: the masks of data.strong_masks have the classes that are merged, corrected ones the merged class; import them with a configuration without data.merge")
    named = None if data.strong_masks is None else str(data.strong_masks)
    if named is not None and chosen is not None and Path(named) != Path(chosen):
        raise DataError(f"--masks {chosen}: the configuration names another place, data.strong_masks: {named}")
    place = chosen if named is None else named
    if place is None:
        what = "FILE.json, an instances file" if isinstance(data, CocoData) else "FOLDER, relative to data.root"
        raise DataError(f"data.strong_masks names no place for the masks; choose one: --masks {what}")
    if isinstance(data, CocoData):
        path = Path(place)
        for field in ("train_json", "val_json"):
            other = getattr(data, field)
            if other is not None and path.resolve() == other.resolve():
                raise DataError(f"data.strong_masks: {path} is data.{field}, which is not changed; choose another file for data.strong_masks")
        return InstancesTarget(path, classes, data.max_megapixels, place, named is not None)
    folder = data.root / (relative_photo_path(place, "--masks") if named is None else place)
    if data.mask_folder is not None and folder.resolve() == (data.root / data.mask_folder).resolve():
        raise DataError(f"data.strong_masks: {folder} is data.mask_folder, too: corrected pseudo labels there would be scored with; choose another folder")
    table = np.arange(256, dtype=np.uint8)
    if isinstance(data, VocData):
        table[1 : len(classes) + 1] = [VOC_CLASSES.index(name) + 1 for name in classes]
    return FolderTarget(folder, table, data.max_megapixels, place, named is not None)


def _refuse(foreign: list[str]) -> None:
    more = f" and {len(foreign) - LISTED} more" if len(foreign) > LISTED else ""
    raise DataError(f"{', '.join(foreign[:LISTED])}{more}: a mask is there that tfwsss has not written, or that was changed since; --force replaces it")


class FolderTarget:
    """Index PNGs `<folder>/<id>.png`; see `Target`.

    Args:
        folder: may be missing.
        table: value in the files of each label, [256] uint8.
        max_megapixels: of masks that are there.
        value, named: see `Target`.
    """

    def __init__(self, folder: Path, table: np.ndarray, max_megapixels: float, value: str, named: bool):
        self.folder, self.table, self.max_megapixels, self.value, self.named = folder, table, max_megapixels, value, named
        self.unchanged = 0
        self._files: dict[str, tuple[Path, bytes]] = {}
        self._foreign: list[str] = []
        manifest = folder / MANIFEST
        self._written: dict[str, str] = load_json(manifest) if manifest.exists() else {}
        if not isinstance(self._written, dict):
            raise DataError(f"{manifest}: not what tfwsss has written there; move it away")

    def add(self, corrected: Corrected) -> None:
        values = self.table[corrected.label]
        path = existing(artifact_path(self.folder, corrected.sample.id, ".png"))
        picture, encoded = Image.fromarray(values), io.BytesIO()
        picture.putpalette(voc_palette().tobytes())
        picture.save(encoded, "png")
        if path.is_symlink() or path.exists():
            if self._same(path, values):
                self.unchanged += 1
                return
            if self._written.get(corrected.sample.id) != _digest(path.read_bytes() if path.is_file() else b""):
                self._foreign.append(str(path))
        self._files[corrected.sample.id] = path, encoded.getvalue()

    def _same(self, path: Path, values: np.ndarray) -> bool:
        try:
            return np.array_equal(read_mask(path, self.max_megapixels), values)
        except DataError:
            return False

    def write(self, force: bool) -> int:
        if self._foreign and not force:
            _refuse(self._foreign)
        if self._files:
            # First, so that a killed import leaves no mask that is not known to be its own.
            write_json(self.folder / MANIFEST, self._written | {name: _digest(content) for name, (_, content) in self._files.items()})
        for path, content in self._files.values():
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        return len(self._files)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class InstancesTarget:
    """An instances file, which keeps its other photos; see `Target`.

    Args:
        path: may be missing.
        classes: of the data set.
        max_megapixels: of masks that are there.
        value, named: see `Target`.
    """

    def __init__(self, path: Path, classes: tuple[str, ...], max_megapixels: float, value: str, named: bool):
        self.path, self.classes, self.value, self.named = path, classes, value, named
        self.unchanged = 0
        self._foreign: list[str] = []
        self._changed: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        self.content: dict[str, Any] = {"info": {"description": "masks that tfwsss has imported"}, "images": [], "annotations": [], "categories": []}
        self._masks: CocoMasks | None = None
        if path.exists():
            self.content = load_json(path)
            index = load_instances(path)
            labels = {number: {name: k + 1 for k, name in enumerate(classes)}.get(category_name(one), IGNORE) for number, one in index.cats.items()}
            numbers = {photo_id(relative_photo_path(str(photo["file_name"]), f"{path}, image {number}")): number for number, photo in index.imgs.items()}
            self._masks = CocoMasks(path, index, numbers, labels, max_megapixels)
        written = self.content.setdefault(KEY, {})
        if not isinstance(written, dict):
            raise DataError(f"{path}: {KEY}: not what tfwsss has written there; choose another file")
        self._written: dict[str, str] = written

    def add(self, corrected: Corrected) -> None:
        sample, label = corrected.sample, corrected.label
        if self._masks is not None and sample.id in self._masks.numbers:
            try:
                there = self._masks(sample)
            except DataError:
                there = None
            if there is not None and np.array_equal(there, label):
                self.unchanged += 1
                return
            if there is None or self._written.get(sample.id) != _label_digest(there):
                self._foreign.append(f"{self.path}, photo {sample.id}")
        height, width = label.shape
        photo = LabelledPhoto(tool_name(sample), sample.image, 1.0, {}, label)
        self._changed[sample.id] = ({"file_name": photo.name, "height": height, "width": width}, list(annotations_of(photo, self.classes, scored=False)))
        self._written[sample.id] = _label_digest(label)

    def write(self, force: bool) -> int:
        if self._foreign and not force:
            _refuse(self._foreign)
        if not self._changed:
            return 0
        content, known = self.content, {} if self._masks is None else self._masks.numbers
        replaced = {known[name] for name in self._changed if name in known}
        content["images"] = [one for one in content["images"] if one["id"] not in replaced]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in replaced]
        numbers = self._categories()
        next_image = 1 + max((one["id"] for one in content["images"] if isinstance(one["id"], int)), default=0)
        next_one = 1 + max((one["id"] for one in content["annotations"] if isinstance(one.get("id"), int)), default=0)
        for image, objects in self._changed.values():
            content["images"].append({"id": next_image, **image})
            for one in objects:
                content["annotations"].append({**one, "id": next_one, "image_id": next_image, "category_id": numbers[one["category_id"]]})
                next_one += 1
            next_image += 1
        with atomic_path(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
        return len(self._changed)

    def _categories(self) -> dict[int, int]:
        """The file's number of each of `annotations_of`, after adding those it lacks."""
        categories = self.content["categories"]
        there = {category_name(one): one["id"] for one in categories}
        numbers = {}
        for own, name in enumerate((*self.classes, IGNORED), 1):
            if name not in there:
                there[name] = 1 + max((one["id"] for one in categories if isinstance(one["id"], int)), default=0)
                categories.append({"id": there[name], "name": name})
            numbers[own] = there[name]
        return numbers


def _label_digest(label: np.ndarray) -> str:
    return _digest(np.ascontiguousarray(label, np.uint8).tobytes())


def shows_nothing(sample: Sample, label: np.ndarray) -> bool:
    """Whether a photo has tags and its label map no pixel of any class: nobody has drawn anything yet, or the tags are wrong."""
    return bool(sample.tags) and not np.any((label != 0) & (label != IGNORE))
