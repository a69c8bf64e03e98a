"""Data sets: photos with tags, and masks for scoring. Nothing here imports TensorFlow but `tfwsss.data.inputs`.

There are more files here than in other folders: each rule about photos, tags and labels has its own. Formats are in `formats`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, overload

from tfwsss.config import Data
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.formats import FORMATS, Split
from tfwsss.data.merging import merge_classes

__all__ = ["Dataset", "Sample", "Split", "load_split"]


@overload
def load_split(data: Data, split: Literal["train"], work_dir: Path) -> Dataset: ...
@overload
def load_split(data: Data, split: Split, work_dir: Path) -> Dataset | None: ...
def load_split(data: Data, split: Split, work_dir: Path) -> Dataset | None:
    """Read one split of the configured data set.

    Args:
        data: the `data` section of the configuration.
        split: "train" or "val".
        work_dir: the run's folder; what a format has to write (generated scenes, unpacked photos) goes below it.

    Returns:
        The data set; None for "val" when the configuration has no evaluation photos.

    Raises:
        DataError: lists, tables, tags or annotations are missing or malformed, or `data.merge` does not fit the classes.
    """
    dataset = FORMATS[data.format].read(data, split, Path(work_dir))
    if dataset is None:
        return None
    dataset = dataclasses.replace(dataset, long_side=data.long_side, orientation=data.orientation)
    return merge_classes(dataset, data.merge) if data.merge else dataset
