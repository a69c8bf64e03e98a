"""Data sets: photos with tags, and masks for scoring. Nothing here imports TensorFlow but `tfwsss.data.inputs`.

There are more files here than in other folders: each format has its reader, each rule about photos and labels its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from tfwsss.config import CocoData, Data, FolderData, VocData
from tfwsss.data.coco import read_coco
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.folder import read_folder
from tfwsss.data.scenes import read_scenes
from tfwsss.data.voc import read_voc

__all__ = ["Dataset", "Sample", "Split", "load_split"]

Split = Literal["train", "val"]


@overload
def load_split(data: Data, split: Literal["train"], work_dir: Path) -> Dataset: ...
@overload
def load_split(data: Data, split: Split, work_dir: Path) -> Dataset | None: ...
def load_split(data: Data, split: Split, work_dir: Path) -> Dataset | None:
    """Read one split of the configured data set.

    Args:
        data: the `data` section of the configuration.
        split: "train" or "val".
        work_dir: the run's folder; generated scenes are kept below it.

    Returns:
        The data set; None for "val" when the configuration has no evaluation photos.

    Raises:
        DataError: lists, tables, tags or annotations are missing or malformed.
    """
    if isinstance(data, VocData):
        return read_voc(data, split)
    if isinstance(data, CocoData):
        return read_coco(data, split)
    if isinstance(data, FolderData):
        return read_folder(data, split)
    return read_scenes(data, split, Path(work_dir))
