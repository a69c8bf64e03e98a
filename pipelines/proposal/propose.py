"""A configuration for photos: recognised, examined, and sized for them and for this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfwsss.config import Config, TaggedData
from tfwsss.config.files import parse_config
from tfwsss.data import Dataset, load_split
from tfwsss.data.check import Inspection
from tfwsss.data.doctor import Diagnosis, SplitReport, diagnose
from tfwsss.data.formats import Found
from tfwsss.data.image import reduced_size
from tfwsss.data.recognition import groups_beside, masks_beside, recognise
from tfwsss.errors import DataError

from ..preflight.large_photos import LARGE, USUAL
from .answers import Device, Untagged
from .document import yaml_text
from .hardware import has_gpu, packaged_backbone
from .settings import Machine, training_settings

FRACTIONS = (0.1, 0.2, 0.3)  # held out; a larger one where a smaller leaves a class without photos
FEW = 20  # photos of a class
MOST = (0.1, 0.9)  # quantiles of the long sides
UNEVEN = 1.5  # ratio of them


@dataclass(frozen=True)
class Options:
    """What the user has answered.

    Attributes:
        format: as `data.format`; None: to be found.
        photos: folder of the photos, where the annotations lie elsewhere.
        untagged: as `data.untagged`; None: by what is known.
        held_out: part of the photos; None: a tenth or more.
        device: cpu or gpu; None: to be found.
        backbone, weights: of the networks; None: those that can be had.
    """

    format: str | None = None
    photos: Path | None = None
    untagged: Untagged | None = None
    held_out: float | None = None
    device: Device | None = None
    backbone: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What was found, and the file to write.

    Attributes:
        says: what the data set is, one line each.
        diagnosis: of the doctor.
        text: of the YAML file.
    """

    says: tuple[str, ...]
    diagnosis: Diagnosis
    text: str


def propose(path: Path, options: Options, work_dir: Path | None, workers: int, progress: Callable[[int], Callable[[int], None]]) -> Proposal:
    """Look at a folder or annotation file and propose a run.

    Args:
        path: folder of photos, or annotation file.
        options: see `Options`.
        work_dir: where the run's results will go; None: runs/<name>.
        workers: processes that look at photos; 0: one a core.
        progress: called with the number of photos; its result with how many are done since its last call.

    Raises:
        DataError: nothing is found, it can be read in several ways, or it cannot be used.
    """
    found = recognise(path, options.format, options.photos)
    name = _name(path)
    work = work_dir or Path("runs") / name
    says, data = list(found.says), dict(found.data)
    train = _load(data, name, work, "train")
    assert train is not None
    if isinstance(_config(data, name, work).data, TaggedData):
        root = Path(data["root"])
        val = _load(data, name, work, "val")
        for beside in (groups_beside(root, [train, *([] if val is None else [val])]), *([masks_beside(root, train)] if "mask_folder" not in data else [])):
            data |= beside.fields
            says += beside.says
    comments = _leave_out_classes(data, train, says)
    comments |= _hold_out(data, name, work, options, says)
    comments |= _treat_untagged(data, train, options, says)
    train = _load(data, name, work, "train")
    val = _load(data, name, work, "val")
    assert train is not None
    says += _counts(train, val)
    diagnosis = diagnose(train, val, workers, progress(len(train) + (len(val) if val else 0)), require_tags=data["untagged"] == "leave_out")
    report = diagnosis.splits["train"]
    if report.usable == 0:
        raise DataError(f"{path}: none of the {len(train)} training photos can be used: {(diagnosis.errors or ['no tags'])[0]}")
    machine = _machine(options)
    comments |= _make_smaller(data, report, says)
    data["orientation"] = "upright"
    long_side = max(reduced_size(report.height[1], report.width[1], data.get("long_side")))
    values: dict[str, Any] = {"name": name, "work_dir": work, "data": data, **training_settings(machine, report.usable, long_side)}
    if _sizes_differ(diagnosis.photos["train"], data.get("long_side")):
        values["cams"]["long_side"] = values["classifier"]["resize_long"][1]
        says.append("photos differ in size: their maps are made at the size that the classifier learns (cams.long_side)")
    parse_config(values, "the proposed configuration")
    says.append(f"{report.usable} usable training photos, median size {report.width[1]}x{report.height[1]}; sized for {'a GPU' if machine.gpu else 'a processor'}: {machine.backbone}, weights {machine.weights}")
    heading = _heading(path, found, train, machine, report.usable, long_side)
    return Proposal(tuple(says), diagnosis, yaml_text(heading, values, COMMENTS | comments))


def _name(path: Path) -> str:
    place = path.absolute() if path.is_dir() else path.absolute().parent
    parts = [part for part in place.parts if part not in ("/", place.anchor)]
    generic = {"train", "images", "photos", "data", "annotations"}
    chosen = next((part for part in reversed(parts) if part.casefold() not in generic), "photos")
    return re.sub(r"[^\w.-]+", "-", chosen).strip("-.") or "photos"


def _config(data: dict[str, Any], name: str, work: Path) -> Config:
    return parse_config({"name": name, "work_dir": work, "data": data}, "the proposed configuration")


def _load(data: dict[str, Any], name: str, work: Path, split: Literal["train", "val"]) -> Dataset | None:
    return load_split(_config(data, name, work).data, split, work)


def _leave_out_classes(data: dict[str, Any], train: Dataset, says: list[str]) -> dict[str, str]:
    """Name the classes where the format has some that no photo shows."""
    shown = [count > 0 for count in train.tag_matrix().sum(axis=0).tolist()]
    if all(shown) or "classes" in data or not any(shown):
        return {}
    absent = [name for name, one in zip(train.classes, shown, strict=True) if not one]
    data["classes"] = [name for name, one in zip(train.classes, shown, strict=True) if one]
    says.append(f"no training photo shows {', '.join(absent)}: left out of data.classes")
    return {"data.classes": "those that a training photo shows; others are ignored in masks"}


def _hold_out(data: dict[str, Any], name: str, work: Path, options: Options, says: list[str]) -> dict[str, str]:
    """Choose `data.val_fraction` where there are no evaluation photos of their own."""
    if _load(data, name, work, "val") is not None:
        return {}
    if data["format"] == "voc":
        return {}
    for fraction in FRACTIONS if options.held_out is None else (options.held_out,):
        data["val_fraction"] = fraction
        try:
            train, val = (_load(data, name, work, split) for split in ("train", "val"))
        except DataError:
            continue
        if train is None or val is None:
            break
        if options.held_out is not None or (train.tag_matrix().any(axis=0).all() and val.tag_matrix().any(axis=0).all()):
            break
    try:
        val = _load(data, name, work, "val")
    except DataError:
        val = None
    if val is None:
        data["val_fraction"] = 0.0
        says.append("nothing is held out for evaluation: there are too few photos")
        return {"data.val_fraction": "nothing is held out: too few photos"}
    grouped = any(sample.group for sample in val.samples)
    says.append(f"held out for evaluation: {data['val_fraction']:.0%}, chosen by the hash of the {'group' if grouped else 'path'}")
    return {"data.val_fraction": f"held out, chosen by the hash of the {'group, so that groups stay together' if grouped else 'path'}"}


def _treat_untagged(data: dict[str, Any], train: Dataset, options: Options, says: list[str]) -> dict[str, str]:
    """Choose `data.untagged`."""
    bare = [sample for sample in train.samples if not sample.tags]
    if options.untagged is not None:
        data["untagged"] = options.untagged.value
        return {"data.untagged": "as --untagged says"}
    if data.get("none"):
        data["untagged"] = "background"
        return {"data.untagged": "photos of data.none show none of the classes, and the classifier learns from that"}
    data["untagged"] = "leave_out"
    if bare:
        says.append(f"{len(bare)} photos have no tag and are left out; if they show none of the classes: --untagged background")
        return {"data.untagged": f"{len(bare)} photos have no tag; background: they show none of the classes, and the classifier learns from that"}
    return {"data.untagged": "photos without a tag; background: they show none of the classes"}


def _make_smaller(data: dict[str, Any], report: SplitReport, says: list[str]) -> dict[str, str]:
    """Choose `data.long_side` where the photos are large."""
    if max(report.height[1], report.width[1]) <= LARGE:
        return {}
    data["long_side"] = USUAL
    says.append(f"photos are large, median {report.width[1]}x{report.height[1]}: the run, and the deployed model, work on them with a long side of {USUAL}; masks are enlarged again")
    return {"data.long_side": "larger photos are made smaller as they are read, by the deployed model, too; more shows smaller objects and takes longer"}


def _sizes_differ(photos: list[Inspection], long_side: int | None) -> bool:
    """Whether the long sides of most photos differ by more than what a network that has learnt one size bears."""
    sides = [max(reduced_size(photo.height, photo.width, long_side)) for photo in photos if not photo.reason]
    low, high = np.quantile(sides, MOST)
    return bool(high > UNEVEN * low)


def _counts(train: Dataset, val: Dataset | None) -> list[str]:
    says = []
    for split, dataset in (("training", train), ("evaluation", val)):
        if dataset is None:
            continue
        counts = dataset.tag_matrix().sum(axis=0).astype(int).tolist()
        listed = ", ".join(f"{name} {count}" for name, count in sorted(zip(dataset.classes, counts, strict=True), key=lambda pair: -pair[1]))
        bare = sum(not sample.tags for sample in dataset.samples)
        unknown = sum(bool(sample.unknown) for sample in dataset.samples)
        more = (f"; {bare} without a tag" if bare else "") + (f"; {unknown} with unknown classes" if unknown else "")
        says.append(f"{split}: {len(dataset)} photos; {listed}{more}")
    counts = dict(zip(train.classes, train.tag_matrix().sum(axis=0).astype(int).tolist(), strict=True))
    if few := [f"{name} ({count})" for name, count in counts.items() if count < FEW]:
        says.append(f"fewer than {FEW} training photos, too few to learn much from: {', '.join(few)}; data.classes can leave classes out")
    return says


def _machine(options: Options) -> Machine:
    gpu = has_gpu() if options.device is None else options.device is Device.gpu
    if options.backbone is not None:
        backbone = options.backbone
    elif options.weights not in (None, "imagenet"):
        backbone = "mobilenetv2"
    else:
        backbone = "resnet50" if gpu else packaged_backbone() or "mobilenetv2"
    return Machine(gpu, backbone, options.weights or "imagenet")


def _heading(path: Path, found: Found, train: Dataset, machine: Machine, photos: int, long_side: int) -> list[str]:
    device = "GPU" if machine.gpu else "processor"
    return [
        f"Written by tfwsss init for {str(path)!r}: {found.data['format']}, {photos} usable training photos of {len(train.classes)} classes, long side {long_side}, on a {device}.",
        "",
        "Every field is described by `tfwsss fields` and docs/configuration.md. Relative paths count from the folder of the call.",
        "Epochs are chosen for a number of steps, crops for the size of the photos; both in the proportions of the presets.",
    ]


COMMENTS = {
    "name": "of the experiment in MLflow",
    "work_dir": "where results go",
    "data": "What tfwsss init has found.",
    "data.none": "tags of photos that show none of the classes",
    "data.groups": "photos of a group never stand on both sides of a split",
    "data.mask_folder": "for scoring only; training never sees these masks",
    "data.orientation": "any: photos have no up (a microscope's, a satellite's, of a surface), and are learnt in all positions",
    "data.unlisted": "a class that is not mentioned on a photo is absent, or unknown",
    "data.relative_to": "what image paths in the table are relative to",
    "classifier": "Learns the tags; its activation maps are what everything else begins with.",
    "classifier.resize_long": "long side of the training photos, drawn from this interval",
    "cams": "Where the classifier sees each class: what its depths agree on (docs/labels.md).",
    "cams.long_side": "photos differ in size: at scale 1 all have this one, which the classifier has learnt",
    "affinitynet": "Learns which pixels belong together.",
    "segmenter": "Learns from the pseudo labels, and is what is exported.",
}
