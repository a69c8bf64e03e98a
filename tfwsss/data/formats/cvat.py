"""CVAT for images 1.1: an XML file with the tags and shapes of every photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tfwsss.config import CvatData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found, place_of
from tfwsss.data.names import normal
from tfwsss.data.photo_files import PhotoIndex
from tfwsss.data.rows import Annotations, Row
from tfwsss.data.safe_xml import each_element
from tfwsss.data.tagged import require_folder, tagged_dataset
from tfwsss.errors import DataError

SHAPES = frozenset({"tag", "box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"})
BEGINNING = 4096  # bytes that are looked at to recognise a file


def read_cvat(config: CvatData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split; see `tfwsss.data.tagged.tagged_dataset`.

    A photo has the labels of its tags and of its shapes. Classes are the labels of the task in its order that occur.

    Raises:
        DataError: the file is missing, no XML, or not of this form.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda name: _read(config.root, name), config.train_file, config.val_file)


def each_image(path: Path, take: Callable[[ElementTree.Element, str, str], None], take_labels: Callable[[ElementTree.Element], None] = lambda element: None) -> None:
    """Call `take` with every photo's element, its name, and where it stands for messages; `take_labels` with the lists of labels.

    Raises:
        DataError: there is no such file, it is no XML, of CVAT for video, or without photos; or a photo has no name.
    """
    tracks = images = 0

    def look(element: ElementTree.Element) -> None:
        nonlocal tracks, images
        if element.tag == "labels":
            take_labels(element)
        elif element.tag == "track":
            tracks += 1
        else:
            images += 1
            name = element.get("name")
            where = f"{path}, image {element.get('id') or name}"
            if not name:
                raise DataError(f"{where}: has no name")
            take(element, name, where)

    try:
        each_element(path, ("labels", "image", "track"), look)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected CVAT's annotations.xml") from None
    if tracks:
        raise DataError(f"{path}: has tracks: this is CVAT for video; export it as CVAT for images")
    if not images:
        raise DataError(f"{path}: no images: not a file of CVAT for images 1.1")


def _read(root: Path, name: str) -> Annotations:
    path, photos = root / name, PhotoIndex(root)
    rows: list[Row] = []
    labels: list[str] = []

    def take_labels(element: ElementTree.Element) -> None:
        labels.extend(normal((label.findtext("name") or "").strip()) for label in element.iterfind("label"))

    def take(element: ElementTree.Element, name: str, where: str) -> None:
        marks = [mark for mark in element if mark.tag in SHAPES]
        if bare := [mark.tag for mark in marks if not mark.get("label")]:
            raise DataError(f"{where}: a {bare[0]} without a label")
        rows.append(Row.of(photos.find(name, where), [str(mark.get("label")) for mark in marks], place=f"image {element.get('id')}"))

    each_image(path, take, take_labels)
    named = {tag for row in rows for tag in row.tags}
    return Annotations(path, tuple(rows), tuple(dict.fromkeys(label for label in labels if label in named)) if named <= set(labels) else None)


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    files = [path] if path.is_file() else sorted(path.glob("*.xml"))
    found = []
    for file in files:
        if file.suffix.lower() != ".xml":
            continue
        with file.open("rb") as opened:
            beginning = opened.read(BEGINNING)
        if b"<annotations" in beginning and (b"<version>1.1" in beginning or b"<image " in beginning):
            found.append(Found({"format": "cvat", **place_of(file, photos)}, (f"CVAT for images, {file.name}",), frozenset({file})))
    return found


FORMAT = Format("cvat", lambda config, split, work_dir: read_cvat(config, split), _recognise)
