"""Label Studio's JSON export: tasks with the choices of one or several annotators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from tfwsss.config import LabelStudioData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found, place_of
from tfwsss.data.json_file import json_files, load_json, peek_json
from tfwsss.data.photo_files import PhotoIndex, is_photo
from tfwsss.data.rows import Annotations, Row
from tfwsss.data.tagged import require_folder, tagged_dataset
from tfwsss.errors import DataError

UPLOAD_PREFIX = 9  # characters that Label Studio puts before the name of an uploaded file: eight of a digest, and a dash


def read_label_studio(config: LabelStudioData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split; see `tfwsss.data.tagged.tagged_dataset`.

    A photo has the choices of its annotation, and the labels of its boxes, polygons and brushes. Of several annotators, what
    all have chosen is present, what none has is absent, and the rest is unknown. Cancelled annotations do not count. Tasks
    that nobody has annotated are left out.

    Raises:
        DataError: the file is missing or not of this form, or a task names no photo.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda name: _read(config, name), config.train_file, config.val_file)


def _read(config: LabelStudioData, name: str) -> Annotations:
    path = config.root / name
    value = load_json(path)
    if not is_export(value):
        raise DataError(f"{path}: not Label Studio's JSON: expected a list of tasks with `data` and `annotations` (JSON-MIN has no annotators: export JSON)")
    photos = PhotoIndex(config.root)
    rows, without, cancelled, several = [], 0, 0, 0
    for number, task in enumerate(value):
        place = f"task {task.get('id', number)}"
        where = f"{path}, {place}"
        valid = [one for one in task["annotations"] if not (isinstance(one, dict) and one.get("was_cancelled"))]
        cancelled += len(task["annotations"]) - len(valid)
        if not valid:
            without += 1
            continue
        opinions = [set(_choices(one, config.control, where)) for one in valid]
        several += len(opinions) > 1
        agreed, mentioned = set.intersection(*opinions), set.union(*opinions)
        address = photo_address(task["data"], config.image_key, where)
        rows.append(Row.of(photos.find(*photo_names(address, where)), agreed, mentioned - agreed, place=place))
    remarks = []
    if cancelled:
        remarks.append(f"{cancelled} cancelled annotations in {path.name} do not count")
    if without:
        remarks.append(f"{without} tasks in {path.name} that nobody has annotated are left out")
    if doubtful := sum(bool(row.unknown) for row in rows):
        remarks.append(f"annotators disagree on {doubtful} of {several} photos with several: what not all of them have chosen is unknown there")
    if not rows:
        raise DataError(f"{path}: no task with an annotation")
    return Annotations(path, tuple(rows), None, tuple(remarks))


def is_export(value: Any) -> bool:
    """Whether it has the form of the export: a list of tasks with data and annotations."""
    return isinstance(value, list) and all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list) for task in value
    )


def _choices(annotation: Any, control: str | None, where: str) -> Iterator[str]:
    results = annotation.get("result") if isinstance(annotation, dict) else None
    if not isinstance(results, list):
        raise DataError(f"{where}: an annotation without the list `result`")
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value", {}), dict):
            raise DataError(f"{where}: an entry of `result` that is no object")
        kind = str(result.get("type", ""))
        if kind != "choices" and not kind.endswith("labels"):
            continue
        if control is not None and result.get("from_name") != control:
            continue
        names = result.get("value", {}).get(kind)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: {kind}: expected a list of texts")
        yield from names


def photo_address(data: dict[str, Any], key: str | None, where: str) -> str:
    """Address of the photo in a task's data, see `data.image_key`.

    Raises:
        DataError: there is none, or several texts may be it.
    """
    if key is not None:
        if not isinstance(data.get(key), str):
            raise DataError(f"{where}: data has no text {key!r} (data.image_key), found {', '.join(map(str, data)) or 'nothing'}")
        return data[key]
    found = [text for text in data.values() if isinstance(text, str) and is_photo(PurePosixPath(_path_in(text)).name)]
    if len(found) != 1:
        raise DataError(f"{where}: {len(found)} texts in data end like a photo, expected one; name it in data.image_key")
    return found[0]


def _path_in(address: str) -> str:
    """The path that an address means: that of a file in the local storage, of an upload, or in a bucket."""
    parts = urlsplit(address)
    if local := parse_qs(parts.query).get("d"):
        return local[0]
    return unquote(parts.path if parts.scheme or parts.netloc else address)


def photo_names(address: str, where: str) -> tuple[str, str, tuple[str, ...]]:
    """What `PhotoIndex.find` is called with."""
    path = _path_in(address)
    name = PurePosixPath(path).name
    prefix = name[:UPLOAD_PREFIX]
    uploaded = len(prefix) == UPLOAD_PREFIX and prefix.endswith("-") and all(character in "0123456789abcdef" for character in prefix[:-1])
    return path, where, (name[UPLOAD_PREFIX:],) if uploaded else ()


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    found = []
    for file in json_files(path):
        value = peek_json(file)
        if value and is_export(value):
            data = {"format": "label_studio", **place_of(file, photos)}
            found.append(Found(data, (f"Label Studio's export {file.name}: {len(value)} tasks",), frozenset({file})))
    return found


FORMAT = Format("label_studio", lambda config, split, work_dir: read_label_studio(config, split), _recognise)
