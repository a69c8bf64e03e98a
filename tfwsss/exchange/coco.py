"""COCO instances: an annotation for each class of each photo, its mask as compressed run lengths (column-major).

An annotation's `score` is the class's confidence, as in COCO's results. What is ignored is a crowd of the category `ignore`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from tfwsss.data.formats.coco import CocoMasks, category_name, load_instances
from tfwsss.errors import DataError
from tfwsss.exchange.labelled import IGNORED, Corrected, LabelledPhoto, Photos, Take, Tool, value_of
from tfwsss.storage.artifacts import IGNORE
from tfwsss.storage.atomic import atomic_path


def annotations_of(photo: LabelledPhoto, classes: tuple[str, ...], scored: bool = True) -> Iterator[dict[str, Any]]:
    """COCO annotations of a photo without `id` and `image_id`; `category_id` counts the classes, then `ignore`, from 1."""
    numbers = {name: number for number, name in enumerate((*classes, IGNORED), 1)}
    for name, mask, confidence in photo.regions(classes):
        shape = rle.encode(np.asfortranarray(mask, np.uint8))
        annotation = {
            "category_id": numbers[name],
            "segmentation": {"size": list(mask.shape), "counts": shape["counts"].decode("ascii")},
            "area": int(mask.sum()),
            "bbox": rle.toBbox(shape).tolist(),
            "iscrowd": int(name == IGNORED),
        }
        yield annotation | ({"score": round(confidence, 4)} if scored else {})


def write(photos: Iterable[LabelledPhoto], classes: tuple[str, ...], path: Path) -> None:
    """Write an instances file."""
    images: list[dict] = []
    annotations: list[dict] = []
    for photo in photos:
        height, width = photo.label.shape
        images.append({"id": len(images) + 1, "file_name": photo.name, "height": height, "width": width})
        for one in annotations_of(photo, classes):
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), **one})
    categories = [{"id": number, "name": name} for number, name in enumerate((*classes, IGNORED), 1)]
    content = {"info": {"description": "pseudo labels of tfwsss"}, "images": images, "annotations": annotations, "categories": categories}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False)


def read(path: Path, photos: Photos, classes: tuple[str, ...], take: Take) -> None:
    """Label maps of all photos in the file; small objects lie on large ones, and all on what is ignored. A crowd is of
    its category: several tools write every mask as one.

    Raises:
        DataError: the file is not of this form, a photo or category is not of the data set, an object has no outline or a
            malformed one.
    """
    index = load_instances(path)
    used = {annotation["category_id"] for annotation in index.dataset["annotations"]}
    labels = {number: value_of(category_name(one), classes, f"{path}, category {number}") if number in used else IGNORE for number, one in index.cats.items()}
    masks = CocoMasks(path, index, {}, labels, photos.max_megapixels, crowds=False)
    for number, photo in index.imgs.items():
        where = f"{path}, image {number}"
        sample = photos.find(str(photo["file_name"]), where)
        photos.canvas(sample, photo["width"], photo["height"], where)
        masks.numbers[sample.id] = number
        try:
            label = masks(sample)
        except (ValueError, TypeError, OverflowError) as error:  # such as an area that is no number
            raise DataError(f"{where}: malformed annotation: {error}") from None
        if label is None:
            raise DataError(f"{where}: has an object with a box but no outline")
        take(Corrected(sample, label, where))
    if not index.imgs:
        raise DataError(f"{path}: lists no images")


TOOL = Tool("coco", "labels.coco.json", write)
