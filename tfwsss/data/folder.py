"""A folder of photos and a CSV `image,tags`: any file names, nested folders."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal

from tfwsss.config import FolderData
from tfwsss.data.dataset import Dataset, MaskFolder, Sample, class_positions
from tfwsss.data.names import existing, merged_forms
from tfwsss.data.strong_masks import strong_mask_folder
from tfwsss.data.tag_spelling import separator_remarks
from tfwsss.data.tag_table import Row, read_tag_table
from tfwsss.errors import DataError


def read_folder(config: FolderData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split.

    Classes are `config.classes`, else all tags of the training table in alphabetical order. Tags that are no class are
    dropped and counted in `Dataset.unknown_tags`. Photos are not opened: a missing one is found by
    `tfwsss.data.check`. Mask values are 0 background, k+1 class k, 255 ignore; others are ignored in scores.

    Returns:
        The data set; None for "val" when the configuration has no evaluation photos.

    Raises:
        DataError: a table is missing or malformed (see `tfwsss.data.tag_table`), or nothing is left in a split.
    """
    if not config.root.is_dir():
        raise DataError(f"data.root: {config.root} is not a folder")
    table = config.root / config.train_csv
    train = read_tag_table(table)
    classes = config.classes
    if classes is None:
        classes = tuple(sorted({tag for row in train for tag in row.tags}))
    positions = class_positions(classes)
    if config.val_csv is not None:
        rows = train if split == "train" else read_tag_table(config.root / config.val_csv)
    elif config.val_fraction > 0:
        rows = [row for row in train if _held_out(row, config.val_fraction) == (split == "val")]
        if not rows:
            raise DataError(f"{table}: data.val_fraction={config.val_fraction} leaves no photo for {split!r}")
    elif split == "train":
        rows = train
    else:
        return None

    samples = tuple(
        Sample(row.id, existing(config.root / row.image), tuple(sorted(positions[tag] for tag in row.tags if tag in positions)))
        for row in rows
    )
    unknown = Counter(tag for row in rows for tag in row.tags if tag not in positions)
    labels = tuple((value, value) for value in range(len(classes) + 1))
    masks = None
    if config.mask_folder is not None:
        folder = config.root / config.mask_folder
        if not folder.is_dir():
            raise DataError(f"data.mask_folder: {folder} is not a folder")
        masks = MaskFolder(folder, labels, config.max_megapixels)
    remarks = merged_forms((tag for row in rows for tag in row.written), "tags")
    remarks += separator_remarks(tag for row in rows for tag in row.tags)
    other = [sample.id for sample, row in zip(samples, rows, strict=True) if sample.image != config.root / row.image]
    if other:
        remarks += (f"{len(other)} photos are called in another Unicode form on disk than in the table, such as {other[0]!r}; they are taken as the same",)
    strong_masks = strong_mask_folder(config, labels) if split == "train" else None
    return Dataset(classes, samples, masks, config.max_megapixels, tuple(sorted(unknown.items())), strong_masks, remarks)


def _held_out(row: Row, fraction: float) -> bool:
    # By path, so that adding or removing photos never moves another photo to the other split.
    digest = hashlib.blake2b(row.image.as_posix().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64
