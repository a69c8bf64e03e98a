"""`tfwsss labels export`: which photos, in which order, with which labels."""

from __future__ import annotations

import csv
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from tfwsss.config import Config
from tfwsss.data import Dataset, Sample
from tfwsss.errors import DataError
from tfwsss.exchange import TOOLS, LabelledPhoto
from tfwsss.exchange.folders import copy_photo
from tfwsss.exchange.label_studio import labelling_interface
from tfwsss.exchange.labelled import Tool, require_names, tool_name
from tfwsss.storage.artifacts import artifact_path, load_label
from tfwsss.storage.atomic import atomic_folder

from ..engine.context import usable_split
from ..engine.terminal import show
from ..stages.label_audit import CLASSES, read_photos
from .predicting import at_photo_size, labelled, predict_photos

SURE = 1.0  # confidence of a mask that a person drew, and of a photo that shows none of the classes


def export_labels(config: Config, to: str, output: Path | None, copies: Path | None, *, doubtful: bool, limit: int | None) -> None:
    """Write the export and say what it holds.

    Photos with a mask in `data.strong_masks` have that mask and are sure, so the most doubtful first are those that nobody has
    corrected. Forms that are data sets also get the evaluation photos that have masks.

    Raises:
        StageError, DataError: the run has not come so far, or something is where the export goes.
    """
    tool, output, train = _begun(config, to, output, copies)
    confidences = {photo.photo: photo.confidence for photo in read_photos(config.work_dir)}
    by_class: dict[str, dict[int, float]] = defaultdict(dict)
    with (config.work_dir / CLASSES).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] in train.classes:
                by_class[row["photo"]][train.classes.index(row["class"])] = float(row["confidence"])
    strong = {sample.id for sample in train.samples if train.strong_mask(sample) is not None}
    missing = [one.id for one in train.samples if one.id not in strong and not artifact_path(config.work_dir / "pseudo_labels", one.id, ".png").is_file()]
    if missing:
        raise DataError(f"{config.work_dir / 'pseudo_labels'}: no label for {len(missing)} of {len(train)} photos, the first is {missing[0]}; has stage pseudo_labels finished there?")
    certain = {sample.id: SURE if sample.id in strong else confidences.get(sample.id, SURE) for sample in train.samples}
    samples = sorted(train.samples, key=(lambda sample: (certain[sample.id], sample.id)) if doubtful else (lambda sample: sample.id))[:limit]

    def chosen() -> Iterator[LabelledPhoto]:
        for sample in samples:
            drawn = train.strong_mask(sample) if sample.id in strong else None
            label = at_photo_size(load_label(config.work_dir / "pseudo_labels", sample.id), sample.image) if drawn is None else drawn
            yield _photo(sample, label, certain[sample.id], by_class[sample.id] if drawn is None else {})
        if tool.photos:
            yield from _evaluation(usable_split(config, config.work_dir, "val"))

    corrected = sum(sample.id in strong for sample in samples)
    _write(tool, chosen, len(samples), train.classes, output, copies, f"{len(samples)} of {len(train)} photos, {corrected} of them with a mask of data.strong_masks")


def export_predictions(config: Config, images: Sequence[Path], to: str, output: Path | None, copies: Path | None, *, doubtful: bool, limit: int | None) -> None:
    """Write what the run's segmenter says of other photos, and say what it holds. Forms that are data sets have them as training photos.

    Raises:
        StageError, DataError: the run has no segmenter, there is no photo, or something is where the export goes.
    """
    tool, output, train = _begun(config, to, output, copies)
    with tempfile.TemporaryDirectory(prefix="tfwsss-labels-") as folder:
        predicted = predict_photos(config, images, Path(folder))
        kept = sorted(predicted, key=lambda one: (one.confidence, one.photo.id) if doubtful else (0.0, one.photo.id))[:limit]
        _write(tool, lambda: labelled(kept, Path(folder)), len(kept), train.classes, output, copies, f"{len(kept)} of {len(predicted)} photos, as the segmenter sees them")


def _begun(config: Config, to: str, output: Path | None, copies: Path | None) -> tuple[Tool, Path, Dataset]:
    tool = TOOLS[to]
    output = output or Path(tool.output)
    for place in filter(None, (output, copies)):
        if place.exists() or place.is_symlink():
            raise DataError(f"{place}: is there already; choose another")
    train = usable_split(config, config.work_dir, "train")
    assert train is not None
    require_names(train.classes)
    return tool, output, train.at_full_size()


def _write(tool: Tool, photos: Callable[[], Iterator[LabelledPhoto]], count: int, classes: tuple[str, ...], output: Path, copies: Path | None, said: str) -> None:
    """The export, copies of the first `count` photos, and what was done."""
    tool.write(photos(), classes, output)
    if copies is not None:
        with atomic_folder(copies) as temporary:
            temporary.mkdir()
            for photo in islice(photos(), count):
                copy_photo(photo, temporary)
    show(f"{said}: {output}")
    if copies is not None:
        show(f"their photos: {copies}")
    if tool.name == "labelstudio":
        show(f"labelling interface: {labelling_interface(classes)}")


def _evaluation(val: Dataset | None) -> Iterator[LabelledPhoto]:
    if val is None:
        return
    val = val.at_full_size()
    for sample in val.samples:
        mask = val.mask(sample)
        if mask is not None:
            yield _photo(sample, mask, SURE, {}, "val")


def _photo(sample: Sample, label: np.ndarray, confidence: float, classes: dict[int, float], split: str = "train") -> LabelledPhoto:
    return LabelledPhoto(tool_name(sample), sample.image, confidence, classes, label, split)
