"""Photos that lie inside other files: written once, one file each, below the run's folder, with a table of their tags."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tfwsss.config import PackedData
from tfwsss.data.dataset import Dataset
from tfwsss.data.names import photo_id, relative_photo_path
from tfwsss.data.rows import Annotations, Row
from tfwsss.data.tagged import require_folder, tagged_dataset
from tfwsss.errors import DataError
from tfwsss.storage.atomic import atomic_folder, is_temporary, read_json, write_json

FOLDER = "unpacked"  # below the run's folder
INDEX = "photos.json"
LARGEST = 256 << 20  # bytes of one photo
_BEGINNINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif"}


@dataclass(frozen=True)
class Packed:
    """One photo as a file holds it: its bytes, tags, the name it had ("" for none), and where it stands, for messages."""

    content: bytes
    tags: tuple[str, ...]
    name: str
    place: str


def read_packed(config: PackedData, split: Literal["train", "val"], work_dir: Path, read) -> Dataset | None:
    """One split of a data set in files that hold the photos.

    Args:
        config: the section `data`.
        split: "train" or "val".
        work_dir: photos are unpacked to `<work_dir>/unpacked`, anew where files or settings have changed.
        read: (config, files) -> (classes or None, iterator of `Packed`); reads one after another.

    Raises:
        DataError: no file, or of `read`; two photos have one name; the folder is somebody else's.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda pattern: _unpacked(config, pattern, work_dir, read), config.train_files, config.val_files, work_dir / FOLDER)


def _unpacked(config: PackedData, pattern: str, work_dir: Path, read) -> Annotations:
    files = packed_files(config.root, pattern)
    settings = {
        "files": [[str(file.relative_to(config.root)), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "fields": [type(config).__name__, config.image_field, config.tags_field, config.id_field, config.label_names and list(config.label_names)],
    }
    side = "train" if pattern == config.train_files else "val"
    folder = work_dir / FOLDER / side
    if folder.parent.is_symlink():
        raise DataError(f"{folder.parent}: is a link; photos are unpacked and removed there: remove the link or choose another work_dir")
    index = _index(folder)
    if index is None and folder.exists():
        raise DataError(f"{folder}: exists, but nothing was unpacked there; move it away")
    if index is None or index["settings"] != json.loads(json.dumps(settings)):
        with atomic_folder(folder, replace=True) as temporary:
            temporary.mkdir(parents=True)
            own = {photo["image"].removeprefix(f"{side}/") for photo in index["photos"]} if index is not None else set()
            index = {"settings": settings, **_write(temporary, side, *read(config, files))}
            write_json(temporary / INDEX, index)
            _keep_others(folder, temporary, own | {INDEX})
    rows = tuple(Row.of(Path(photo["image"]), photo["tags"], place=photo["place"]) for photo in index["photos"])
    return Annotations(config.root / pattern, rows, None if index["classes"] is None else tuple(index["classes"]))


def _keep_others(old: Path, new: Path, own: set[str]) -> None:
    """Copy what somebody else has put among the photos, which are about to be removed."""
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old)
        others = path.is_symlink() or not path.is_dir()
        if others and name.as_posix() not in own and not any(is_temporary(part) for part in name.parts) and not (new / name).exists():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def packed_files(root: Path, pattern: str) -> list[Path]:
    """Files that a pattern below a folder names, in the order of their names.

    Raises:
        DataError: there is none, or the pattern leaves the folder.
    """
    relative = relative_photo_path(pattern, "data.train_files or data.val_files")
    files = sorted(file for file in root.glob(relative.as_posix()) if file.is_file())
    if not files:
        raise DataError(f"{root / pattern}: no such file")
    return files


def _index(folder: Path) -> dict[str, Any] | None:
    found = read_json(folder / INDEX)
    return found if isinstance(found, dict) and {"settings", "photos", "classes"} <= found.keys() else None


def _write(folder: Path, side: str, classes: tuple[str, ...] | None, photos: Iterator[Packed]) -> dict[str, Any]:
    written: list[dict[str, Any]] = []
    taken: dict[str, str] = {}
    for number, photo in enumerate(photos):
        if len(photo.content) > LARGEST:
            raise DataError(f"{photo.place}: a photo of {len(photo.content) >> 20} MB, the limit is {LARGEST >> 20} MB")
        name = Path(f"{number:06d}") if not photo.name else relative_photo_path(photo.name, photo.place).with_suffix("")
        if (image_id := photo_id(name)) in taken:
            raise DataError(f"{photo.place}: {image_id!r} stands already in {taken[image_id]}; leave out data.id_field to number the photos")
        taken[image_id] = photo.place
        path = name.with_name(f"{name.name}{_suffix(photo.content)}")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(photo.content)
        written.append({"image": f"{side}/{path.as_posix()}", "tags": list(photo.tags), "place": photo.place})
    if not written:
        raise DataError("no photos in the files of data.train_files or data.val_files")
    return {"classes": None if classes is None else list(classes), "photos": written}


def _suffix(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for beginning, suffix in _BEGINNINGS.items() if content.startswith(beginning)), ".bin")
