"""`tfwsss labels import`: corrected labels become masks that training learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfwsss.config import Config
from tfwsss.data import load_split
from tfwsss.data.image import with_nearest
from tfwsss.errors import DataError
from tfwsss.exchange import Corrected, Photos, read_corrected
from tfwsss.exchange.labelled import require_names
from tfwsss.exchange.strong_masks import shows_nothing, strong_target
from tfwsss.storage.artifacts import load_label

from ..engine.terminal import show


def import_labels(config: Config, file: Path, masks: str | None, *, changed: bool, force: bool) -> None:
    """Check all of the file, write the masks, and say what the configuration must name.

    Args:
        config: of the run whose labels were corrected.
        file: see `tfwsss.exchange.read_corrected`.
        masks: see `tfwsss.exchange.strong_masks.strong_target`.
        changed: leave out photos whose label map is the pseudo label.
        force: replace masks of others.

    Raises:
        DataError: something in the file does not fit the data set, or nothing is left to import; then nothing is written.
    """
    # The folder may not be there yet.
    dataset = load_split(config.data.model_copy(update={"strong_masks": None}), "train", config.work_dir)
    require_names(dataset.classes)
    target = strong_target(config.data, dataset.classes, masks)
    empty: list[str] = []
    same = 0

    def take(corrected: Corrected) -> None:
        nonlocal same
        if shows_nothing(corrected.sample, corrected.label):
            empty.append(corrected.sample.id)
        elif changed and _is_pseudo_label(config.work_dir, corrected):
            same += 1
        else:
            target.add(corrected)

    read_corrected(file, Photos(dataset.samples, config.data.max_megapixels), dataset.classes, take)
    written = target.write(force)
    if empty:
        show(f"left out, tagged photos without a pixel of any class: {len(empty)}, the first is {empty[0]}; nobody has drawn there, or the tags are wrong")
    if same:
        show(f"left out, the same as the pseudo label: {same}")
    if not written and not target.unchanged:
        raise DataError(f"{file}: no mask to import")
    more = f", {target.unchanged} were there already" if target.unchanged else ""
    show(f"{written} masks written for data.strong_masks: {target.value}{more}")
    if not target.named:
        show(f"put this into the configuration, below data:\n  strong_masks: {target.value}")


def _is_pseudo_label(work: Path, corrected: Corrected) -> bool:
    try:
        # As large as the photo, see data.long_side.
        return np.array_equal(with_nearest(load_label(work / "pseudo_labels", corrected.sample.id), corrected.label.shape), corrected.label)
    except FileNotFoundError:
        return False
