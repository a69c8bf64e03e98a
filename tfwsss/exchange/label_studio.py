"""Label Studio's JSON: tasks whose predictions, and in its export whose annotations, are brushes.

A prediction's `score` is the photo's confidence, a brush's the class's. What is ignored is a brush of the label `ignore`.
The photo's address is that of Label Studio's local storage, `/data/local-files/?d=NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from tfwsss.data.formats.label_studio import is_export, photo_address, photo_names
from tfwsss.data.json_file import load_json
from tfwsss.data.run_lengths import brush_of, mask_of_brush
from tfwsss.errors import DataError
from tfwsss.exchange.labelled import IGNORED, Corrected, LabelledPhoto, Photos, Take, Tool, value_of
from tfwsss.exchange.shapes import box_mask, ellipse_mask, polygon_mask
from tfwsss.storage.atomic import atomic_path

LOCAL_STORAGE = "/data/local-files/?d="
CONTROL, OBJECT = "label", "image"


def labelling_interface(classes: tuple[str, ...]) -> str:
    """The labelling interface (XML) that the tasks are made for."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in (*classes, IGNORED))
    return f'<View><Image name="{OBJECT}" value="${OBJECT}"/><BrushLabels name="{CONTROL}" toName="{OBJECT}">{labels}</BrushLabels></View>'


def write(photos: Iterable[LabelledPhoto], classes: tuple[str, ...], path: Path) -> None:
    """Write a task with a prediction for each photo."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, photo in enumerate(photos):
            file.write(",\n" if number else "\n")
            json.dump(_task(photo, classes), file, ensure_ascii=False)
        file.write("\n]\n")


def _task(photo: LabelledPhoto, classes: tuple[str, ...]) -> dict[str, Any]:
    height, width = photo.label.shape
    place = {"from_name": CONTROL, "to_name": OBJECT, "original_width": width, "original_height": height, "image_rotation": 0}
    result = [
        {"id": f"region{number}", **place, "type": "brushlabels", "score": round(confidence, 4), "value": {"format": "rle", "rle": brush_of(mask), "brushlabels": [name]}}
        for number, (name, mask, confidence) in enumerate(photo.regions(classes))
    ]
    prediction = {"model_version": "tfwsss", "score": round(photo.confidence, 4), "result": result}
    return {"data": {OBJECT: LOCAL_STORAGE + quote(photo.name)}, "predictions": [prediction]}


def read(path: Path, photos: Photos, classes: tuple[str, ...], take: Take) -> None:
    """Label maps of the tasks that somebody has annotated, with brushes, polygons, boxes and ellipses; later ones lie on top.

    Raises:
        DataError: the file is not of this form, a photo or label is not of the data set, a photo has several annotations, or a
            shape is malformed or has no area.
    """
    value = load_json(path)
    if not is_export(value):
        raise DataError(f"{path}: not Label Studio's JSON: expected a list of tasks with `data` and `annotations`; choose JSON when exporting")
    empty = True
    for number, task in enumerate(value):
        where = f"{path}, task {task.get('id', number)}"
        valid = [one for one in task["annotations"] if isinstance(one, dict) and not one.get("was_cancelled")]
        if len(valid) > 1:
            raise DataError(f"{where}: {len(valid)} annotations, expected one; cancel the others")
        if not valid:
            continue
        text, _, others = photo_names(photo_address(task["data"], None, where), where)
        take(_corrected(valid[0], photos.find(text, where, others), photos, classes, where))
        empty = False
    if empty:
        raise DataError(f"{path}: no task with an annotation: predictions count when somebody has submitted them")


def _corrected(annotation: dict, sample, photos: Photos, classes: tuple[str, ...], where: str) -> Corrected:
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) and isinstance(one.get("value", {}), dict) for one in results):
        raise DataError(f"{where}: an annotation without a list `result` of objects")
    label = None
    for number, result in enumerate(results, 1):
        place = f"{where}, result {number}"
        kind, value = str(result.get("type", "")), result.get("value", {})
        if not kind.endswith("labels"):
            continue  # choices, comments, ratings
        drawn = photos.canvas(sample, result.get("original_width"), result.get("original_height"), place)
        label = drawn if label is None else label
        if result.get("image_rotation") not in (0, None) or value.get("rotation") not in (0, None):
            raise DataError(f"{place}: is rotated; turn it back, or draw a polygon instead")
        names = value.get(kind)
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise DataError(f"{place}: {kind}: expected one label")
        try:
            label[_draw(kind, value, *label.shape)] = value_of(names[0], classes, place)
        except DataError:
            raise
        except KeyError as error:
            raise DataError(f"{place}: has no {error}") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{place}: {error}") from None
    return Corrected(sample, photos.empty(sample) if label is None else label, where)


def _draw(kind: str, value: dict, height: int, width: int) -> np.ndarray:
    if kind == "brushlabels":
        if value.get("format") != "rle":
            raise ValueError(f"a brush of format {value.get('format')!r}, expected rle")
        return mask_of_brush(value["rle"], height, width)
    x, y = width / 100, height / 100  # coordinates are percent
    if kind == "polygonlabels":
        return polygon_mask([(left * x, top * y) for left, top in value["points"]], height, width)
    if kind == "rectanglelabels":
        left, top = value["x"] * x, value["y"] * y
        return box_mask(left, top, left + value["width"] * x, top + value["height"] * y, height, width)
    if kind == "ellipselabels":
        return ellipse_mask(value["x"] * x, value["y"] * y, value["radiusX"] * x, value["radiusY"] * y, height, width)
    raise ValueError(f"{kind}: has no area, expected brushes, polygons, boxes and ellipses")


TOOL = Tool("labelstudio", "labels.labelstudio.json", write)
