"""A folder for each class: dog/a.jpg, or train/dog/a.jpg and val/dog/b.jpg. The name of the folder is the tag."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tfwsss.config import ClassFoldersData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.names import normal
from tfwsss.data.photo_files import NOT_OURS, photos_below
from tfwsss.data.rows import Annotations, Row
from tfwsss.data.tagged import require_folder, tagged_dataset
from tfwsss.errors import DataError

BLOCK = 1 << 20  # bytes hashed at once
NONE = frozenset({"ok", "good", "free", "normal", "none", "negative", "background", "no defect", "no_defect", "defect_free", "no-defect", "nodefect"})
TRAIN, VAL = ("train", "training"), ("val", "valid", "validation")
NO_CLASS = frozenset({
    "images", "imgs", "photos", "data", "jpegimages", "imagesets", "annotations", "labels", "label", "masks", "mask", "ground_truth", "gt",
    "segmentationclass", "segmentationclassaug", "segmentationobject", *TRAIN, *VAL, "test", "testing",
})  # fmt: skip


def read_class_folders(config: ClassFoldersData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split; see `tfwsss.data.tagged.tagged_dataset`.

    Classes are the folders' names in alphabetical order, but for those of `data.none`. A photo may lie in folders below. One
    that lies in several classes' folders, byte for byte, is one photo with several tags.

    Raises:
        DataError: a folder is missing, or has no folders with photos.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda name: _read(config.root, name), config.train_folder, config.val_folder)


def _read(root: Path, name: str) -> Annotations:
    place = root / name
    require_folder(place, "data.train_folder or data.val_folder")
    found = [(folder.name, photo) for folder in _folders(place) for photo in photos_below(folder)]
    if not found:
        raise DataError(f"{place}: no folders with photos, expected one for each class")
    beside = sum(1 for file in place.iterdir() if file.is_file())
    rows, merged = _merged(root, found)
    remarks = []
    if merged:
        remarks.append(f"{merged} photos lie in more than one class's folder, byte for byte: each is one photo with several tags")
    if beside:
        remarks.append(f"{beside} files in {place} itself, in no class's folder, are passed over")
    return Annotations(place, tuple(rows), tuple(sorted({normal(tag) for tag, _ in found})), tuple(remarks))


def _folders(place: Path) -> list[Path]:
    return sorted(folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith(".") and folder.name not in NOT_OURS)


def _merged(root: Path, found: list[tuple[str, Path]]) -> tuple[list[Row], int]:
    """Rows, and how many of them stand for photos in several folders."""
    sizes: defaultdict[int, list[tuple[str, Path]]] = defaultdict(list)
    for tag, photo in found:
        sizes[_size(photo)].append((tag, photo))
    places: defaultdict[str, list[tuple[str, Path]]] = defaultdict(list)
    for same in sizes.values():
        for tag, photo in same:  # only what has the size of another class's photo can have its content
            several = len({other for other, _ in same}) > 1
            places[_digest(photo) if several else str(photo)].append((tag, photo))
    rows, merged = [], 0
    for same in places.values():
        tags = {tag for tag, _ in same}
        merged += len(tags) > 1
        for _, photo in same[:1] if len(tags) > 1 else same:
            rows.append(Row.of(photo.relative_to(root), tags))
    return sorted(rows, key=lambda row: row.image.as_posix()), merged


def _size(photo: Path) -> int:
    try:
        return photo.stat().st_size
    except OSError:  # a link to nothing; the check of photos names it
        return -1


def _digest(photo: Path) -> str:
    try:
        status = photo.stat()
        return _hashed(photo, status.st_size, status.st_mtime_ns)
    except OSError:
        return str(photo)


@lru_cache(maxsize=1 << 20)  # every stage lists the data set
def _hashed(photo: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with photo.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------- recognition


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    if not path.is_dir():
        return []
    below = {folder.name.casefold(): folder for folder in _folders(path)}
    train = next((below[name] for name in TRAIN if name in below and classes_in(below[name])), None)
    if train is not None:
        return [_found(path, train, next((below[name] for name in VAL if name in below), None))]
    classes = classes_in(path)
    if len(classes) < 2:
        return []
    if path.name.casefold() in TRAIN:
        beside = {folder.name.casefold(): folder for folder in _folders(path.absolute().parent)}
        val = next((beside[name] for name in VAL if name in beside), None)
        if val is not None and classes_in(val) and set(classes_in(val)) <= set(classes):
            return [_found(path.parent, path, val)]
    return [_found(path, path, None)]


def classes_in(place: Path) -> list[str]:
    """Names of the folders in a folder that look like classes: they hold photos, and are not called like something else."""
    names = [folder.name for folder in _folders(place) if folder.name.casefold() not in NO_CLASS and next(photos_below(folder), None) is not None]
    return sorted(map(normal, names))


def _found(root: Path, train: Path, val: Path | None) -> Found:
    classes = classes_in(train)
    if val is not None and not classes_in(val):
        val = None
    none = [name for name in classes if name.casefold() in NONE]
    says = [f"a folder for each class in {train}: {', '.join(classes)}"]
    data: dict[str, object] = {"format": "class_folders", "root": root, "train_folder": train.name if train != root else "."}
    if val is not None:
        data["val_folder"] = val.name
        says.append(f"evaluation photos: {val}, beside it and with the same classes")
    if none:
        data["none"] = none
        says.append(f"{', '.join(none)}: taken as the name of photos that show no class (data.none)")
    if len(classes) - len(none) == 1:
        says.append("one class only")
    return Found(data, tuple(says), frozenset({train, *([val] if val is not None else [])}))


FORMAT = Format("class_folders", lambda config, split, work_dir: read_class_folders(config, split), _recognise)
