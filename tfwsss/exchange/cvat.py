"""CVAT for images 1.1: an XML file with a mask for each class of each photo.

A mask lies in its bounding box, `left top width height`; `rle` holds the lengths of its runs in row-major order inside the
box, background first. What is ignored is a mask of the label `ignore`. CVAT takes the file where the task has these labels
and photos of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from tfwsss.data.formats.cvat import each_image
from tfwsss.data.run_lengths import mask_of_runs, runs_of
from tfwsss.errors import DataError
from tfwsss.exchange.labelled import IGNORED, Corrected, LabelledPhoto, Photos, Take, Tool, require_xml_text, value_of
from tfwsss.exchange.shapes import box_mask, ellipse_mask, polygon_mask
from tfwsss.storage.artifacts import voc_palette
from tfwsss.storage.atomic import atomic_path

NO_AREA = frozenset({"tag"})  # marks that say nothing about pixels
CONFIDENCE = "confidence"


def write(photos: Iterable[LabelledPhoto], classes: tuple[str, ...], path: Path) -> None:
    """Write the masks of the photos; their confidence is an attribute of that name.

    Raises:
        DataError: a name has characters that XML cannot hold.
    """
    require_xml_text(classes)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><task><name>tfwsss</name><labels>\n')
        for index, name in enumerate((*classes, IGNORED), 1):
            colour = "#{:02x}{:02x}{:02x}".format(*voc_palette()[255 if name == IGNORED else index].tolist())
            attribute = f"<attribute><name>{CONFIDENCE}</name><mutable>False</mutable><input_type>text</input_type><default_value></default_value><values></values></attribute>"
            file.write(f"    <label><name>{escape(name)}</name><color>{colour}</color><type>any</type><attributes>{attribute}</attributes></label>\n")
        file.write("  </labels></task></meta>\n")
        for number, photo in enumerate(photos):
            require_xml_text([photo.name])
            height, width = photo.label.shape
            file.write(f'  <image id="{number}" name={quoteattr(photo.name)} width="{width}" height="{height}">\n')
            for name, mask, confidence in photo.regions(classes):
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                top, left = int(rows[0]), int(columns[0])
                box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
                runs = ", ".join(map(str, runs_of(box)))
                place = f'left="{left}" top="{top}" width="{box.shape[1]}" height="{box.shape[0]}"'
                file.write(f'    <mask label={quoteattr(name)} source="auto" occluded="0" rle="{runs}" {place} z_order="0">')
                file.write(f'<attribute name="{CONFIDENCE}">{confidence:.4f}</attribute></mask>\n')
            file.write("  </image>\n")
        file.write("</annotations>\n")


def read(path: Path, photos: Photos, classes: tuple[str, ...], take: Take) -> None:
    """Label maps of all photos in the file: masks, polygons, boxes and ellipses, later ones and those of a higher z_order on top.

    Raises:
        DataError: the file is not of this form, a photo or label is not of the data set, or a shape is malformed or has no area.
    """
    each_image(path, lambda element, name, where: take(_corrected(element, photos.find(name, where), photos, classes, where)))


def _corrected(element: ElementTree.Element, sample, photos: Photos, classes: tuple[str, ...], where: str) -> Corrected:
    label = photos.canvas(sample, element.get("width"), element.get("height"), where)
    shapes = [shape for shape in element if shape.tag not in NO_AREA]
    try:
        shapes.sort(key=lambda shape: int(shape.get("z_order") or 0))
    except ValueError as error:
        raise DataError(f"{where}: z_order: {error}") from None
    for number, shape in enumerate(shapes, 1):
        place = f"{where}, {shape.tag} {number}"
        draw = DRAWERS.get(shape.tag)
        if draw is None:
            raise DataError(f"{place}: has no area, expected masks, polygons, boxes and ellipses")
        if not shape.get("label"):
            raise DataError(f"{place}: has no label")
        value = value_of(str(shape.get("label")), classes, place)
        try:
            label[draw(shape, *label.shape)] = value
        except (ValueError, OverflowError) as error:
            raise DataError(f"{place}: {error}") from None
    return Corrected(sample, label, where)


def _number(shape: ElementTree.Element, name: str) -> float:
    text = shape.get(name)
    if text is None:
        raise ValueError(f"has no {name}")
    return float(text)


def _mask(shape: ElementTree.Element, height: int, width: int) -> np.ndarray:
    left, top, across, down = (int(_number(shape, name)) for name in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(across, down) < 1 or left + across > width or top + down > height:
        raise ValueError(f"a box of {across}x{down} at {left}, {top} lies outside the photo's {width}x{height}")
    runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    drawn = np.zeros((height, width), bool)
    drawn[top : top + down, left : left + across] = mask_of_runs(runs, down, across)
    return drawn


def _polygon(shape: ElementTree.Element, height: int, width: int) -> np.ndarray:
    points = []
    for point in (shape.get("points") or "").split(";"):
        x, y = point.split(",")
        points.append((float(x), float(y)))
    return polygon_mask(points, height, width)


def _upright(shape: ElementTree.Element) -> None:
    if float(shape.get("rotation") or 0) != 0:
        raise ValueError("is rotated; draw a polygon instead")


def _box(shape: ElementTree.Element, height: int, width: int) -> np.ndarray:
    _upright(shape)
    left, top, right, bottom = (_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    return box_mask(left, top, right, bottom, height, width)


def _ellipse(shape: ElementTree.Element, height: int, width: int) -> np.ndarray:
    _upright(shape)
    x, y, across, down = (_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
    return ellipse_mask(x, y, across, down, height, width)


DRAWERS: dict[str, Callable[[ElementTree.Element, int, int], np.ndarray]] = {"mask": _mask, "polygon": _polygon, "box": _box, "ellipse": _ellipse}
TOOL = Tool("cvat", "labels.cvat.xml", write)
