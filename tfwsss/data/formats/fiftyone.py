"""FiftyOne's image classification dataset: `labels.json` beside the folder `data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tfwsss.config import FiftyOneData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found, place_of
from tfwsss.data.json_file import json_files, load_json, peek_json
from tfwsss.data.photo_files import PhotoIndex
from tfwsss.data.rows import Annotations, Row
from tfwsss.data.tagged import require_folder, tagged_dataset
from tfwsss.errors import DataError


def read_fiftyone(config: FiftyOneData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split; see `tfwsss.data.tagged.tagged_dataset`.

    `labels` gives each photo, called by its name without suffix, a label, a list of them, or null: a text, a number among
    `classes`, or an object with the field `label`. Classes are in the order of `classes`.

    Raises:
        DataError: the file is missing or not of this form.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda name: _read(config, name), config.train_file, config.val_file)


def _read(config: FiftyOneData, name: str) -> Annotations:
    path = config.root / name
    value = load_json(path)
    if not _is_labels(value):
        raise DataError(f"{path}: not FiftyOne's labels.json: expected an object with `classes` and `labels`")
    classes, photos = value.get("classes"), PhotoIndex(config.root)
    folder = (Path(name).parent / config.photos).as_posix()
    rows, bare = [], 0
    for key, target in value["labels"].items():
        where = f"{path}, {key}"
        tags = [_tag(one, classes, where) for one in (target if isinstance(target, list) else [] if target is None else [target])]
        bare += target is None
        found = photos.find_stem(f"{folder}/{key}")
        if found is None:
            raise DataError(f"{where}: no photo of this name in {config.root / folder}")
        rows.append(Row.of(found, tags, place=key))
    remarks = (f"{bare} photos have no label in {path.name}",) if bare else ()
    named = {tag for row in rows for tag in row.tags}
    return Annotations(path, tuple(rows), tuple(name for name in classes if name in named) if classes else None, remarks)


def _is_labels(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("labels"), dict) and (value.get("classes") is None or _texts(value["classes"]))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _tag(target: Any, classes: list[str] | None, where: str) -> str:
    if isinstance(target, dict):
        target = target.get("label")
    if isinstance(target, str):
        return target
    if isinstance(target, int) and not isinstance(target, bool) and classes and 0 <= target < len(classes):
        return classes[target]
    raise DataError(f"{where}: {str(target)[:40]!r} is no label, expected a text or a number of `classes`")


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    found = []
    for file in json_files(path):
        value = peek_json(file)
        if isinstance(value, dict) and "classes" in value and _is_labels(value):
            data = {"format": "fiftyone", **place_of(file, photos)}
            found.append(Found(data, (f"FiftyOne's {file.name}: {len(value['labels'])} photos",), frozenset({file, file.parent / "data"})))
    return found


FORMAT = Format("fiftyone", lambda config, split, work_dir: read_fiftyone(config, split), _recognise)
