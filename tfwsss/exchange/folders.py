"""Folders of photos and of index PNGs: what Ultralytics' semantic segmentation, mmsegmentation and scripts for SegFormer read.

    images/train/NAME   images/val/NAME   copies of the photos
    masks/train/ID.png  masks/val/ID.png  0 background, k+1 class k, 255 ignore
    data.yaml                             paths, names of the values, ignore_index
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import yaml

from tfwsss.data.dataset import BACKGROUND
from tfwsss.data.image import read_mask
from tfwsss.data.photo_files import photos_below
from tfwsss.errors import DataError
from tfwsss.exchange.labelled import Corrected, LabelledPhoto, Photos, Take, Tool
from tfwsss.storage.artifacts import IGNORE, save_label
from tfwsss.storage.atomic import atomic_folder

DESCRIPTION = "data.yaml"


def copy_photo(photo: LabelledPhoto, folder: Path) -> None:
    """Copy a photo to `<folder>/<name>`; a copy and no link, so that whoever edits it does not edit the data set."""
    target = folder / photo.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(photo.image, target)
    except OSError as error:
        raise DataError(f"{photo.image}: cannot be copied to {target}: {error.strerror}") from None


def write_splits(photos: Iterable[LabelledPhoto], path: Path, label: Callable[[LabelledPhoto, Path], None], names: dict[int, str], **more) -> None:
    """Write photos below images/ and labels beside them, in folders for each split, and data.yaml.

    Args:
        photos: taken one after another.
        path: the folder; there must be nothing yet.
        label: writes what belongs to a photo; gets the folder that holds images/, too.
        names: of the values.
        more: further fields of data.yaml.

    Raises:
        DataError: a photo cannot be copied.
    """
    splits = set()
    with atomic_folder(path) as temporary:
        temporary.mkdir()
        for photo in photos:
            splits.add(photo.split)
            copy_photo(photo, temporary / "images" / photo.split)
            label(photo, temporary)
        _describe(temporary, names, "val" in splits, **more)


def _describe(folder: Path, names: dict[int, str], has_val: bool, **more) -> None:
    """Write data.yaml. Without evaluation photos `val` names those of training, with a comment, as readers want one."""
    values = {"path": ".", "train": "images/train", "val": "images/val" if has_val else "images/train", **more, "nc": len(names), "names": names}
    comment = "" if has_val else "# val: there are no evaluation photos with masks; these are the training photos.\n"
    (folder / DESCRIPTION).write_text(comment + yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def write(photos: Iterable[LabelledPhoto], classes: tuple[str, ...], path: Path) -> None:
    """Write the folder; errors as `write_splits`."""

    def label(photo: LabelledPhoto, folder: Path) -> None:
        save_label(folder / "masks" / photo.split, photo.id, photo.label)

    write_splits(photos, path, label, dict(enumerate((BACKGROUND, *classes))), masks_dir="masks", ignore_index=IGNORE)


def read(path: Path, photos: Photos, classes: tuple[str, ...], take: Take) -> None:
    """Label maps of a folder of index PNGs called after the photos; of the folder that `write` writes, those of masks/train.

    Raises:
        DataError: there are none, one is called like no training photo, cannot be read, or has another size or other values.
    """
    folder = path / "masks/train" if (path / "masks/train").is_dir() else path
    for description in {folder / DESCRIPTION, folder.parent.parent / DESCRIPTION}:
        _require_same_names(description, classes)
    files = [file for file in photos_below(folder) if file.suffix.lower() == ".png"]
    if not files:
        raise DataError(f"{folder}: no PNG masks")
    for file in files:
        sample = photos.find(file.relative_to(folder).as_posix(), str(file))
        label = read_mask(file, photos.max_megapixels)
        photos.canvas(sample, label.shape[1], label.shape[0], str(file))
        if strange := sorted(set(np.unique(label).tolist()) - {*range(len(classes) + 1), IGNORE}):
            raise DataError(f"{file}: values {', '.join(map(str, strange))}, expected 0..{len(classes)} and {IGNORE}")
        take(Corrected(sample, label, str(file)))


def _require_same_names(description: Path, classes: tuple[str, ...]) -> None:
    """Refuse masks whose numbers stand for other classes."""
    try:
        values = yaml.safe_load(description.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{description}: cannot be read: {str(error).splitlines()[0]}") from None
    names = values.get("names") if isinstance(values, dict) else None
    expected = [BACKGROUND, *classes]
    if names is not None and (list(names.values()) if isinstance(names, dict) else names) != expected:
        raise DataError(f"{description}: names: {names}, expected those of the data set: {', '.join(expected)}")


TOOL = Tool("folders", "labels.folders", write, photos=True)
