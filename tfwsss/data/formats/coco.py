"""COCO instances: tags are the categories that occur, masks are drawn from the annotations when asked for."""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO

from tfwsss.config import CocoData
from tfwsss.data.dataset import Dataset, Sample, class_positions
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.held_out import group_of, held_out
from tfwsss.data.json_file import json_files, peek_json
from tfwsss.data.names import existing, normal, photo_id, relative_photo_path
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE


def read_coco(config: CocoData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split.

    Classes are `config.classes`, else the categories of the training file in its order, but for those that no annotation
    uses and that are the supercategory of others, as Roboflow writes one. The id of a photo is its `file_name` without
    suffix. An object, also a crowd, gives its photo the tag of its category. A photo with an object that has no outline,
    only a box, has no mask.

    Returns:
        The data set; None for "val" when the configuration has no evaluation file.

    Raises:
        DataError: a file is missing, is not JSON or not COCO instances; a class is no category; or two photos have
            the same id.
    """
    if split == "val" and config.val_json is None and not config.val_fraction:
        return None
    own = split == "train" or config.val_json is None
    path, folder = (config.train_json, config.train_images) if own else (config.val_json, config.val_images)
    if path is None or folder is None:
        raise DataError("data.val_images: found none, expected the folder of the photos in data.val_json")
    if folder is None or not folder.is_dir():
        raise DataError(f"data.{split}_images: {folder} is not a folder")
    index = load_instances(path)
    names = {number: category_name(category) for number, category in index.cats.items()}
    classes, remarks = config.classes, []
    if classes is None:
        classes, roots = _classes(config.train_json, index if split == "train" else load_instances(config.train_json))
        if roots:
            remarks.append(f"categories that no object has and that only stand above others are no classes: {', '.join(map(repr, roots))}")
    positions = class_positions(classes)
    if split == "train" and (absent := [name for name in classes if name not in names.values()]):
        raise DataError(f"data.classes: {', '.join(absent)}: no such category in {path}")

    samples, unknown = [], Counter[str]()
    part = config.val_fraction if config.val_json is None else 0.0
    seen: dict[str, Path] = {}
    for number, photo in index.imgs.items():
        relative = relative_photo_path(str(photo["file_name"]), f"{path}, image {number}")
        image_id = photo_id(relative)
        if image_id in seen:
            raise DataError(f"{path}: {relative} and {seen[image_id]} differ only by suffix, or are the same photo")
        seen[image_id] = relative
        tags = {names[annotation["category_id"]] for annotation in index.imgToAnns[number]}
        group = group_of(relative)
        if part and held_out(relative, group, part) != (split == "val"):
            continue
        unknown.update(tags - positions.keys())
        samples.append(Sample(image_id, existing(folder / relative), tuple(sorted(positions[t] for t in tags if t in positions)), group=group))
    if not samples:
        raise DataError(f"{path}: lists no images" if not seen else f"{path}: data.val_fraction={part} leaves no photo for {split!r}")
    numbers = dict(zip(seen, index.imgs, strict=True))
    boxes = {numbers[sample.id] for sample in samples if not all(map(_has_outline, index.imgToAnns[numbers[sample.id]]))}
    if boxes:
        remarks.append(f"{len(boxes)} of {len(samples)} photos have objects with a box but no outline: they have no mask and are not scored")
    masks = CocoMasks(path, index, numbers, _labels(index, positions), config.max_megapixels) if not boxes or any(map(_has_outline, index.dataset["annotations"])) else None
    strong_masks = _strong_masks(config, config.strong_masks, positions) if split == "train" and config.strong_masks is not None else None
    return Dataset(classes, tuple(samples), masks, config.max_megapixels, tuple(sorted(unknown.items())), strong_masks, tuple(remarks))


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    files = [file for file in json_files(path) if _is_instances(file)]
    if not files:
        return []
    splits = {_split_of(file): file for file in reversed(files)}
    train = splits.get("train", files[0])
    val = splits.get("val")
    if len(files) > (2 if val is not None else 1):
        raise DataError(f"{path}: several COCO files: {', '.join(file.name for file in files)}; name the one of the training photos instead of the folder")
    images = photos or _image_folder(train)
    if images is None:
        raise DataError(f"{train}: no folder near it holds the photos that it names; name it with --photos")
    data: dict[str, Any] = {"format": "coco", "train_json": train, "train_images": images}
    says = [f"COCO file {train.name}, photos in {images}"]
    if val is not None and val != train and (val_images := photos or _image_folder(val)) is not None:
        data |= {"val_json": val, "val_images": val_images}
        says.append(f"evaluation photos: {val.name}, photos in {val_images}")
    return [Found(data, tuple(says), frozenset({*files, images}))]


def _split_of(path: Path) -> str:
    name = f"{path.parent.name}/{path.name}".lower()
    return "val" if "val" in name else "test" if "test" in name else "train" if "train" in name else ""


def _is_instances(path: Path) -> bool:
    value = peek_json(path)
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in ("images", "annotations", "categories"))


def _image_folder(path: Path) -> Path | None:
    """The folder near a COCO file that most of its photos are in."""
    names = [str(photo.get("file_name", "")) for photo in peek_json(path)["images"][:100] if isinstance(photo, dict)]
    split = path.stem.removeprefix("instances_")
    near = (path.parent, path.parent.parent)
    places = [*near, *(place / name for place in near for name in (split, "images", "data", "train", "val", "train2017", "val2017", f"images/{split}"))]
    counts = {place: sum((place / name).is_file() for name in names if name and ".." not in name) for place in places if place.is_dir()}
    best = max(counts, key=lambda place: counts[place], default=None)
    return best if best is not None and counts[best] * 2 > len(names) else None


def _labels(index: COCO, positions: dict[str, int]) -> dict[int, int]:
    return {number: positions.get(category_name(category), IGNORE - 1) + 1 for number, category in index.cats.items()}


def _strong_masks(config: CocoData, path: Path, positions: dict[str, int]) -> CocoMasks:
    index = load_instances(path)
    numbers = {
        photo_id(relative_photo_path(str(photo["file_name"]), f"{path}, image {number}")): number
        for number, photo in index.imgs.items()
    }
    return CocoMasks(path, index, numbers, _labels(index, positions), config.max_megapixels)


def category_name(category: dict) -> str:
    """As classes are called."""
    return normal(category["name"].strip())


def _classes(path: Path, index: COCO) -> tuple[tuple[str, ...], list[str]]:
    """(names of the categories, names of those that only stand above others)"""
    used = {annotation["category_id"] for annotation in index.dataset["annotations"]}
    categories = index.dataset["categories"]
    above = [(category["id"], category.get("supercategory")) for category in categories]
    roots = [one for one in categories if one["id"] not in used and any(one["name"] == name and one["id"] != below for below, name in above)]
    names = tuple(category_name(category) for category in categories if category not in roots)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: categories: {', '.join(map(repr, twice))} more than once; name those to use in data.classes")
    return names, [category_name(category) for category in roots]


def _has_outline(annotation: dict) -> bool:
    shape = annotation.get("segmentation")
    if isinstance(shape, list):
        return any(not isinstance(points, list) or len(points) >= 6 for points in shape)
    return shape is not None and shape != {}


def _is_crowd(annotation: dict) -> bool:
    """COCO has 0 and 1; some tools write them as text, as truth values or not at all.

    Raises:
        DataError: the field is something else.
    """
    value = annotation.get("iscrowd")
    if str(value) not in ("0", "1", "None", "False", "True"):
        raise DataError(f"annotation {annotation.get('id')}: iscrowd: {value!r}, expected 0 or 1")
    return str(value) in ("1", "True")


@dataclass(frozen=True)
class CocoMasks:
    """Draws label maps; callable as `Dataset.masks`.

    Attributes:
        path: the instances file, for messages.
        index: its content.
        numbers: COCO's image number of each sample id.
        labels: label of each category number; 255 for categories that are no class.
        max_megapixels: larger maps are refused.
        crowds: whether crowds are ignored; False: they are of their category, as tools mean it that write every mask as a crowd.
    """

    path: Path
    index: COCO
    numbers: dict[str, int]
    labels: dict[int, int]
    max_megapixels: float
    crowds: bool = True

    def __call__(self, sample: Sample) -> np.ndarray | None:
        """[H, W] uint8: objects over what is ignored (255), small ones over large ones; None where an object has no outline, and for a photo
        that the file does not list.

        Raises:
            DataError: a shape is malformed or lies outside the photo.
        """
        number = self.numbers.get(sample.id)
        if number is None:
            return None
        photo = self.index.imgs[number]
        height, width = int(photo["height"]), int(photo["width"])
        where = f"{self.path}, image {number}"
        if height < 1 or width < 1 or height * width / 1e6 > self.max_megapixels:
            raise DataError(f"{where}: {width}x{height} px, the limit is {self.max_megapixels:.4g} megapixels")
        if not all(map(_has_outline, self.index.imgToAnns[number])):
            return None  # what is under a box is neither the object nor background
        label = np.zeros((height, width), np.uint8)
        # Areas cover each other in COCO; the smaller object is nearly always the one in front.
        order = sorted(self.index.imgToAnns[number], key=lambda a: (not self._lowest(a), -float(a.get("area") or 0)))
        for annotation in order:
            inside = _draw(annotation, height, width, f"{where}, annotation {annotation.get('id')}")
            label[inside] = self._value(annotation)
        return label

    def _lowest(self, annotation: dict) -> bool:
        return _is_crowd(annotation) if self.crowds else self._value(annotation) == IGNORE

    def _value(self, annotation: dict) -> int:
        return IGNORE if self.crowds and _is_crowd(annotation) else self.labels[annotation["category_id"]]


def _draw(annotation: dict, height: int, width: int, where: str) -> np.ndarray:
    shape: Any = annotation.get("segmentation")
    try:
        if isinstance(shape, dict):
            if list(shape["size"]) != [height, width]:
                raise DataError(f"{where}: a mask of {shape['size']} (height, width), expected {[height, width]}")
            if isinstance(shape["counts"], list):
                if sum(shape["counts"]) != height * width or min(shape["counts"]) < 0:
                    raise DataError(f"{where}: run lengths do not add up to {height}x{width} pixels")
                shape = rle.frPyObjects(shape, height, width)
            drawn = rle.decode(shape)
            # Run lengths that end early leave the rest of the map as the memory was.
            if drawn.max() > 1 or int(drawn.sum()) != int(rle.area(shape)):
                raise DataError(f"{where}: run lengths do not add up to {height}x{width} pixels")
            return drawn.astype(bool)
        polygons = [_polygon(points, height, width) for points in shape or [] if len(points) >= 6]
        return rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))).astype(bool)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where}: malformed segmentation: {error}") from None


def _polygon(points: list, height: int, width: int) -> list[float]:
    if len(points) % 2 or not all(math.isfinite(value) for value in points):
        raise ValueError(f"{len(points)} coordinates, expected pairs of finite numbers")
    # Points far outside would cost memory by their distance.
    return [min(max(float(v), 0.0), float(width if i % 2 == 0 else height)) for i, v in enumerate(points)]


def load_instances(path: Path) -> COCO:
    """An instances file as pycocotools indexes it; shared, not to be changed.

    Raises:
        DataError: it cannot be read or is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise DataError(f"{path}: not a regular file")
    return _load_version(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)  # COCO's own training file takes half a minute, and every stage asks for it
def _load_version(path: Path, mtime_ns: int, size: int) -> COCO:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints progress
            index = COCO(str(path))
        for key in ("images", "annotations", "categories"):
            if not isinstance(index.dataset.get(key), list):
                raise DataError(f"{path}: no list {key!r}: not a COCO instances file")
            if key != "annotations" and len({entry["id"] for entry in index.dataset[key]}) < len(index.dataset[key]):
                raise DataError(f"{path}: {key}: an id stands there more than once")
        for photo in index.imgs.values():
            photo["file_name"], photo["height"], photo["width"]
        for annotation in index.dataset["annotations"]:
            if annotation["category_id"] not in index.cats or annotation["image_id"] not in index.imgs:
                raise DataError(f"{path}: annotation {annotation.get('id')}: its image or category is not in the file")
            try:
                _is_crowd(annotation)
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
        if not index.cats or not all(isinstance(category.get("name"), str) for category in index.cats.values()):
            raise DataError(f"{path}: no categories with names")
        return index
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path}: an entry lacks the field {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AssertionError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a COCO instances file: {error}") from None


FORMAT = Format("coco", lambda config, split, work_dir: read_coco(config, split), _recognise)
