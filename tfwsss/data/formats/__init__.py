"""One file for each format of data sets, and their list."""

from tfwsss.data.formats import (
    class_folders,
    coco,
    cvat,
    fiftyone,
    folder,
    label_studio,
    parquet,
    scenes,
    tfrecord,
    voc,
)
from tfwsss.data.formats.format import Format, Found, Split

__all__ = ["FORMATS", "Format", "Found", "Split"]

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (voc, coco, folder, class_folders, label_studio, cvat, fiftyone, parquet, tfrecord, scenes)
}
