"""What a folder or file of photos is: the format, and what lies beside it, for `tfwsss init`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfwsss.data.dataset import Dataset, MaskFolder
from tfwsss.data.formats import FORMATS, Found
from tfwsss.data.held_out import read_groups
from tfwsss.data.image import read_mask
from tfwsss.data.photo_files import photos_below
from tfwsss.errors import DataError, ImageError
from tfwsss.storage.artifacts import IGNORE

MASK_FOLDERS = ("masks", "mask", "annotations", "ground_truth", "SegmentationClass")
LOOKED_AT = 40  # masks
AGREEING = 0.9  # part of them that must show the photo's tags and no other class


def recognise(path: Path, format: str | None = None, photos: Path | None = None) -> Found:
    """The one way in which a folder or file can be read.

    Args:
        path: folder of photos, or annotation file.
        format: as `data.format`; None: all are tried.
        photos: folder of the photos, where the annotations lie somewhere else.

    Raises:
        DataError: there is nothing; no format fits; or several do: then it says what could be meant, and what chooses.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if format is not None and format not in FORMATS:
        raise DataError(f"--format {format}: expected one of {', '.join(FORMATS)}")
    found: list[Found] = []
    errors: list[DataError] = []
    for one in FORMATS.values() if format is None else [FORMATS[format]]:
        try:
            found += one.recognise(path, photos)
        except DataError as error:
            errors.append(error)
    found = [one for one in found if not any(one.claims < other.claims for other in found)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise DataError(_question(path, found))
    if errors:
        raise errors[0]
    count = sum(1 for _ in photos_below(path)) if path.is_dir() else 0
    wanted = f"no {format}" if format else "nothing that says what is on them"
    raise DataError(
        f"{path}: {count} photos and {wanted}: expected a table such as tags.csv (image,tags), a folder for each class, or the export of an annotation tool; "
        "docs/data.md shows one of each format"
    )


def _question(path: Path, found: list[Found]) -> str:
    formats = [one.data["format"] for one in found]
    lines = [f"{path}: can be read in {len(found)} ways; which one is meant?"]
    for one in found:
        answer = f"--format {one.data['format']}"
        if formats.count(one.data["format"]) > 1:
            answer = f"tfwsss init {next(iter(sorted(one.claims)))}"
        lines.append(f"  {answer}: {one.says[0] if one.says else one.data['format']}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------- what lies beside


@dataclass(frozen=True)
class Beside:
    """Fields to add to the section `data`, and what to say of them."""

    fields: dict[str, Any]
    says: tuple[str, ...]


def groups_beside(root: Path, datasets: list[Dataset]) -> Beside:
    """Tables with a column `group` near photos whose groups are not known."""
    samples = [sample for dataset in datasets for sample in dataset.samples]
    if groups := {sample.group for sample in samples if sample.group}:
        return Beside({}, (f"{len(groups)} groups of photos, which stay on one side of a split",))
    photos = {os.path.normpath(sample.image.absolute()) for sample in samples}
    names, count = [], 0
    for path in sorted({*root.glob("*.csv"), *root.absolute().parent.glob("*.csv")}):
        try:
            with path.open(encoding="utf-8") as file:
                columns = [name.strip() for name in file.readline(1000).split(",")]
            if {"image", "group"} <= set(columns):
                known = {os.path.normpath(image.absolute()) for image in read_groups(path)}
                if known & photos:
                    names.append(Path(os.path.relpath(path, root)).as_posix())
                    count += len(known & photos)
        except (OSError, UnicodeError, DataError):
            continue  # not the table that is looked for
    if not names:
        return Beside({}, ())
    return Beside({"groups": names}, (f"groups of {count} photos in {', '.join(names)}: they stay on one side of a split; tags that may stand there are not read",))


def masks_beside(root: Path, dataset: Dataset) -> Beside:
    """A folder of masks near photos that belongs to them: called after them, and showing what their tags say."""
    says: list[str] = []
    for folder in _mask_folders(root):
        masks = MaskFolder(folder, (), dataset.max_megapixels)
        some = [sample for sample in dataset.samples if masks.path(sample).is_file() and masks.path(sample) != sample.image][:: max(1, len(dataset) // LOOKED_AT)]
        if not some:
            continue
        agreeing = shown = 0
        for sample in some:
            try:
                values = set(np.unique(read_mask(masks.path(sample), dataset.max_megapixels)).tolist()) - {0, IGNORE}
            except ImageError:
                continue
            agreeing += values <= {tag + 1 for tag in sample.tags}
            shown += bool(values)
        name = Path(os.path.relpath(folder, root)).as_posix()
        if shown and agreeing >= AGREEING * len(some):
            return Beside({"mask_folder": name}, (*says, f"masks, for scoring only: {folder}"))
        says.append(f"masks in {folder} are not used: in {len(some) - agreeing} of {len(some)} the values are not the numbers of the tags in this order (1 {dataset.classes[0]}, ...)")
    return Beside({}, tuple(says))


def _mask_folders(root: Path) -> Iterator[Path]:
    above = root.absolute().parent
    for name in MASK_FOLDERS:
        for folder in (root / name, above / name / root.absolute().name, above / name):
            if folder.is_dir():
                yield folder
