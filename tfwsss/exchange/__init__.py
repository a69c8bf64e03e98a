"""Labels on their way to annotation tools and back: one file for each tool's form, and their list."""

from __future__ import annotations

from pathlib import Path

from tfwsss.data.json_file import load_json
from tfwsss.errors import DataError
from tfwsss.exchange import coco, cvat, folders, label_studio, yolo
from tfwsss.exchange.labelled import Corrected, LabelledPhoto, Photos, Take, Tool

__all__ = ["TOOLS", "Corrected", "LabelledPhoto", "Photos", "Tool", "read_corrected"]

TOOLS: dict[str, Tool] = {module.TOOL.name: module.TOOL for module in (cvat, label_studio, coco, yolo, folders)}


def read_corrected(path: Path, photos: Photos, classes: tuple[str, ...], take: Take) -> None:
    """Read a corrected file, or folder of index PNGs; what form it has is seen from it.

    Args:
        path: the file or folder.
        photos: that it may mean.
        classes: names without background.
        take: called with every photo in it.

    Raises:
        DataError: it is missing, of none of the forms, or what is in it does not fit the data set.
    """
    if path.is_dir():
        return folders.read(path, photos, classes, take)
    if path.suffix.lower() == ".xml":
        return cvat.read(path, photos, classes, take)
    if path.suffix.lower() == ".json":
        form = label_studio if isinstance(load_json(path), list) else coco
        return form.read(path, photos, classes, take)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    raise DataError(f"{path}: expected CVAT's .xml, Label Studio's or COCO's .json, or a folder of PNG masks")
