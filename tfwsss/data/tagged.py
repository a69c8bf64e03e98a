"""A data set of what annotation files say: classes get numbers, splits and groups are drawn, masks are found.

All formats whose tags stand photo by photo end here; they differ in how their file is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from tfwsss.config import TaggedData
from tfwsss.data.dataset import Dataset, MaskFolder, Sample, class_positions
from tfwsss.data.held_out import group_of, held_out, read_groups
from tfwsss.data.names import existing, merged_forms
from tfwsss.data.rows import Annotations, Row, refuse_same_id
from tfwsss.data.strong_masks import strong_mask_folder
from tfwsss.data.tag_spelling import separator_remarks
from tfwsss.errors import DataError


def require_folder(root: Path, field: str = "data.root") -> None:
    """Raises:
    DataError: it is not a folder.
    """
    if not root.is_dir():
        raise DataError(f"{field}: {root} is not a folder")


def tagged_dataset(
    config: TaggedData,
    split: Literal["train", "val"],
    read: Callable[[str], Annotations],
    train: str,
    val: str | None,
    root: Path | None = None,
) -> Dataset | None:
    """One split of a data set whose annotations are read by `read`.

    Classes are `config.classes`, else those that the training file names in its order, else all tags of it in alphabetical
    order. Tags that are no class are dropped and counted in `Dataset.unknown_tags`. Photos are not opened: a missing one is
    found by `tfwsss.data.check`. Mask values are 0 background, k+1 class k, 255 ignore; others are ignored in scores.

    Args:
        config: the section `data`.
        split: "train" or "val".
        read: gives the annotations of a file or folder, from how the configuration names it.
        train, val: what `read` is called with; val None: there are no evaluation photos of their own.
        root: folder that paths in rows are relative to; `config.root` without it.

    Returns:
        The data set; None for "val" when the configuration has no evaluation photos.

    Raises:
        DataError: of `read`; two photos have the same id; there is no class; nothing is left in a split; a folder is missing.
    """
    root = config.root if root is None else root
    if split == "val" and val is None and not config.val_fraction:
        return None
    learnt = read(train)
    refuse_same_id(learnt.path, learnt.rows)
    classes = _classes(config, learnt)
    positions = class_positions(classes)
    source, rows = learnt, list(learnt.rows)
    groups = {os.path.normpath(path): group for name in config.groups for path, group in read_groups(config.root / name).items()}

    def group(row: Row) -> str:
        return group_of(row.image, row.group or groups.get(os.path.normpath(root / row.image), ""))

    if val is not None:
        if split == "val":
            source = read(val)
            refuse_same_id(source.path, source.rows)
            rows = list(source.rows)
    elif config.val_fraction > 0:
        rows = [row for row in rows if held_out(row.image, group(row), config.val_fraction) == (split == "val")]
        if not rows:
            raise DataError(f"{learnt.path}: data.val_fraction={config.val_fraction} leaves no photo for {split!r}")
    none, open_ended = frozenset(config.none), config.unlisted == "unknown"
    samples = tuple(
        Sample(row.id, existing(root / row.image), _numbers(row.tags, positions), _unknown(row, positions, none, open_ended), group(row)) for row in rows
    )
    dropped = Counter(tag for row in rows for tag in row.tags if tag not in positions and tag not in none)
    labels = tuple((value, value) for value in range(len(classes) + 1))
    masks = None
    if config.mask_folder is not None:
        require_folder(config.root / config.mask_folder, "data.mask_folder")
        masks = MaskFolder(config.root / config.mask_folder, labels, config.max_megapixels)
    strong_masks = strong_mask_folder(config, labels) if split == "train" else None
    remarks = (*source.remarks, *_remarks(rows, samples, root, none), *_group_remarks(config, samples))
    return Dataset(classes, samples, masks, config.max_megapixels, tuple(sorted(dropped.items())), strong_masks, remarks)


def _classes(config: TaggedData, learnt: Annotations) -> tuple[str, ...]:
    if config.classes is not None:
        return config.classes
    names = learnt.classes
    if names is None:
        names = tuple(sorted({tag for row in learnt.rows for tag in row.tags}))
    return tuple(name for name in names if name not in config.none)


def _numbers(tags: Iterable[str], positions: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted(positions[tag] for tag in tags if tag in positions))


def _unknown(row: Row, positions: dict[str, int], none: frozenset[str], open_ended: bool) -> tuple[int, ...]:
    if none.intersection(row.tags):
        return ()  # somebody has looked, and there is nothing
    if open_ended:
        return _numbers(positions.keys() - set(row.tags) - set(row.absent), positions)
    return _numbers(row.unknown, positions)


def _remarks(rows: list[Row], samples: tuple[Sample, ...], root: Path, none: frozenset[str]) -> tuple[str, ...]:
    remarks = merged_forms((tag for row in rows for tag in row.written), "tags")
    remarks += separator_remarks(tag for row in rows for tag in row.tags)
    other = [sample.id for sample, row in zip(samples, rows, strict=True) if sample.image != root / row.image]
    if other:
        remarks += (f"{len(other)} photos are called in another Unicode form on disk than in the table, such as {other[0]!r}; they are taken as the same",)
    if both := [row.id for row in rows if none.intersection(row.tags) and len(row.tags) > 1]:
        remarks += (f"{len(both)} photos have a tag of data.none and a class, such as {both[0]!r}; they are taken as of the class",)
    if absent := sorted(none - {tag for row in rows for tag in row.tags}):
        remarks += (f"data.none: no photo has the tag {', '.join(map(repr, absent))}",)
    return remarks


def _group_remarks(config: TaggedData, samples: tuple[Sample, ...]) -> tuple[str, ...]:
    if config.groups and samples and not any(sample.group for sample in samples):
        return (f"data.groups: {', '.join(config.groups)}: a group for none of the {len(samples)} photos, such as {samples[0].id!r}",)
    return ()
