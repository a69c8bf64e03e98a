"""PASCAL VOC devkit layout, with the lists and tags of the PSA reference code."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tfwsss.config import VocData
from tfwsss.data.cls_labels import read_cls_labels
from tfwsss.data.dataset import Dataset, MaskFolder, Sample, class_positions
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.held_out import group_of
from tfwsss.data.names import existing, normal, relative_photo_path
from tfwsss.data.rows import Row
from tfwsss.data.safe_xml import each_element
from tfwsss.data.strong_masks import strong_mask_folder
from tfwsss.data.tag_table import read_tag_table
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_voc(config: VocData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split.

    A list holds ids, or lines `/JPEGImages/<id>.jpg /SegmentationClassAug/<id>.png` as PSA's lists do, or ids with -1, 0
    or 1 as ImageSets/Main does; only the first column counts. Ids may contain blanks. Masks are `<mask_folder>/<id>.png` with VOC's numbers; where `config.classes` is a part of the 20,
    they are renumbered by position in it, and the other classes become ignore and leave the tags. A photo that has no
    tags on file gets none.

    Returns:
        The data set; None for "val" when the configuration has no evaluation list.

    Raises:
        DataError: a list or the tags are missing or malformed, or a class is not one of VOC's 20.
    """
    if not config.root.is_dir():
        raise DataError(f"data.root: {config.root} is not a folder")
    classes = CLASSES if config.classes is None else config.classes
    positions = class_positions(classes)
    for name in classes:
        if name not in CLASSES:
            near = difflib.get_close_matches(name, CLASSES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f", expected some of {', '.join(CLASSES)}"
            raise DataError(f"data.classes: {name!r} is not a class of PASCAL VOC{hint}")
    listed = config.train_list if split == "train" else config.val_list
    if listed is None:
        return None
    photos = _read_list(_find_list(config, listed), config.root)
    found = _read_tags(config, list(photos), required=split == "train")
    rows = {image_id: found.get(image_id) or Row(photo, ()) for image_id, photo in photos.items()}

    def numbers(tags: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(sorted(positions[tag] for tag in tags if tag in positions))

    samples = tuple(
        Sample(image_id, existing(config.root / photos[image_id]), numbers(row.tags), numbers(row.unknown), group_of(photos[image_id], row.group))
        for image_id, row in rows.items()
    )
    unknown = Counter(tag for row in rows.values() for tag in row.tags if tag not in positions)
    labels = {CLASSES.index(name) + 1: position + 1 for name, position in positions.items()}
    others = {value: IGNORE for value in range(1, len(CLASSES) + 1)}
    values = tuple(({0: 0} | others | labels).items())
    masks = None
    if config.mask_folder is not None and (config.root / config.mask_folder).is_dir():
        scored = None
        if split == "train" and config.train_mask_list is not None:
            scored = frozenset(_read_list(_find_list(config, config.train_mask_list), config.root))
        masks = MaskFolder(config.root / config.mask_folder, values, config.max_megapixels, scored)
    strong_masks = strong_mask_folder(config, values) if split == "train" else None
    return Dataset(classes, samples, masks, config.max_megapixels, tuple(sorted(unknown.items())), strong_masks)


def list_paths(config: VocData, name: str) -> list[Path]:
    """Where the list of this name may be, the place that counts most first."""
    return [config.root / "ImageSets/Segmentation" / f"{name}.txt", config.root / name, Path(name)]


def _find_list(config: VocData, name: str) -> Path:
    tried = list_paths(config, name)
    for path in tried:
        if path.is_file():
            return path
    raise DataError(f"no image list {name!r}: tried {', '.join(str(path) for path in tried)}")


def _first_column(line: str, root: Path) -> str:
    if line.startswith("/"):  # PSA writes paths below the devkit's folder with a leading slash
        return re.split(r"\s+(?=/)", line)[0]
    if " " not in line and "\t" not in line:
        return line
    if existing(root / "JPEGImages" / f"{line}.jpg").is_file() or existing(root / "Annotations" / f"{line}.xml").is_file():
        return line
    if column := re.fullmatch(r"(.*\S)\s+(-1|0|1)", line):
        return column[1]
    first, *rest = line.split()
    return first if len(rest) == 1 and "/" in rest[0] else line


def _read_list(path: Path, root: Path) -> dict[str, Path]:
    photos: dict[str, Path] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        first = _first_column(line.strip(), root)
        if first.startswith("/"):
            photo = relative_photo_path(first[1:], where)
            image_id = normal(photo.stem)
        else:
            listed = relative_photo_path(first, where).as_posix()
            image_id, photo = normal(listed), Path("JPEGImages") / f"{listed}.jpg"
        if image_id in photos:
            raise DataError(f"{where}: {image_id!r} is listed twice")
        photos[image_id] = photo
    if not photos:
        raise DataError(f"{path}: the list is empty")
    return photos


def _read_tags(config: VocData, ids: list[str], required: bool) -> dict[str, Row]:
    if config.tags == "xml":
        folder = config.root / "Annotations"
        if folder.is_dir():
            return {image_id: Row(Path(image_id), _object_names(existing(folder / f"{image_id}.xml"))) for image_id in ids}
        if not required:
            return {}
        raise DataError(f"data.tags: no folder {folder}, expected Annotations/<id>.xml for the training tags")
    path = config.root / config.tags
    if path.suffix == ".npy":
        tags = {}
        for image_id, vector in read_cls_labels(path).items():
            if len(vector) != len(CLASSES):
                raise DataError(f"{path}: {image_id!r} has {len(vector)} values, expected {len(CLASSES)}")
            names = tuple(name for name, present in zip(CLASSES, vector, strict=True) if present)
            tags[normal(image_id)] = Row(Path(image_id), names)
    else:
        # The table may name photos by id or by path below the devkit's folder.
        tags = {row.id.removeprefix("JPEGImages/"): row for row in read_tag_table(path)}
    if required and not any(image_id in tags for image_id in ids):
        raise DataError(f"data.tags: {path} knows none of the {len(ids)} training photos, such as {ids[0]!r}")
    return tags


def _object_names(path: Path) -> tuple[str, ...]:
    """Names of the objects in a VOC annotation, also difficult and truncated ones; () when there is no file."""
    names: set[str] = set()

    def take(annotation: ElementTree.Element) -> None:
        names.update(normal((element.text or "").strip()) for element in annotation.iterfind("object/name"))

    try:
        each_element(path, ("annotation",), take)
    except FileNotFoundError:
        return ()
    return tuple(sorted(names - {""}))


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    lists = path / "ImageSets/Segmentation"
    if not (path / "JPEGImages").is_dir() or not lists.is_dir():
        return []
    names = sorted(file.stem for file in lists.glob("*.txt"))
    train = next((name for name in ("train", "train_aug", "trainaug") if name in names), None)
    if train is None:
        raise DataError(f"{lists}: no list train.txt, expected one of the training photos; found {', '.join(names) or 'none'}")
    data: dict[str, object] = {"format": "voc", "root": path, "train_list": train, "val_list": "val" if "val" in names else None}
    says, claims = [f"PASCAL VOC devkit, lists {', '.join(names)}"], {path / "JPEGImages", path / "Annotations"}
    if not (path / "Annotations").is_dir():
        for name in ("cls_labels.npy", "tags.csv"):
            if (path / name).is_file():
                data["tags"] = name
                claims.add(path / name)
                says.append(f"no Annotations; tags are in {name}")
                break
        else:
            raise DataError(f"{path}: no tags: neither Annotations nor cls_labels.npy nor tags.csv")
    folders = [name for name in ("SegmentationClass", "SegmentationClassAug") if (path / name).is_dir()]
    data["mask_folder"] = folders[0] if folders else None
    if folders:
        says.append(f"masks, for scoring only: {folders[0]}" + (f" (there is also {folders[1]})" if len(folders) > 1 else ""))
    return [Found(data, tuple(says), frozenset(claims))]


FORMAT = Format("voc", lambda config, split, work_dir: read_voc(config, split), _recognise)
