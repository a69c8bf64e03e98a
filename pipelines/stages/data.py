"""Stage `data`: makes the data set available, checks every photo, and sets the bad ones aside.

data/quarantine.csv     photos left out, and masks that are not scored with, with the reason
data/usable.json        ids of the other photos, for each split, of those that are not scored, and of the training photos with a mask to learn from
data/digests.json       digests of their content, part of every later stage's fingerprint
"""

from __future__ import annotations

import csv
import io
import math
import shutil
from pathlib import Path
from typing import Any

from tfwsss.config import CocoData, Config
from tfwsss.data import Dataset, Sample, Split, load_split
from tfwsss.data.check import Inspection, sort_out
from tfwsss.data.dataset import MaskFolder
from tfwsss.data.doctor import Diagnosis, diagnose
from tfwsss.data.image import reduced_size
from tfwsss.data.mask_check import UNREADABLE
from tfwsss.data.strong_masks import check_strong_masks
from tfwsss.errors import DataError
from tfwsss.processes import worker_count
from tfwsss.storage.atomic import write_json, write_text

from ..engine.contents import contents_of
from ..engine.context import DIGESTS, STRONG_MASKS, USABLE, Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage, digest
from ..labelling.saved_cams import require_classes
from ..preflight.crops import crop_warnings
from ..preflight.large_photos import large_photo_warnings
from ..preflight.space import Photo, maps, space_warnings
from . import NAMES

SPLITS: tuple[Split, ...] = ("train", "val")
QUARANTINE = "quarantine.csv"
LONGEST_LINE = 240  # characters of a finding
LEAST_FREE = 20_000_000  # bytes


def _tags(sample: Sample) -> tuple:
    """What is known of a photo's classes, as the digests have it."""
    return (sample.tags, sample.unknown) if sample.unknown else sample.tags


def _mask_file(config: Config, dataset: Dataset, split: str, sample) -> Path | None:
    """The file a sample's mask is read from."""
    if isinstance(dataset.masks, MaskFolder):
        return dataset.masks.path(sample) if dataset.masks.counts(sample) else None
    if dataset.masks is None or not isinstance(config.data, CocoData):
        return None
    return config.data.train_json if split == "train" or config.data.val_json is None else config.data.val_json


def _strong_mask_file(config: Config, dataset: Dataset, sample) -> Path | None:
    """The file a sample's strong mask is read from."""
    if isinstance(dataset.strong_masks, MaskFolder):
        return dataset.strong_masks.path(sample)
    return config.data.strong_masks if dataset.strong_masks is not None and isinstance(config.data, CocoData) else None


def file_signatures(config: Config, work: Path) -> dict[str, str]:
    """Digest that changes when the content of a photo, a tag or a mask changes: what the first stage's fingerprint is made of.

    Raises:
        DataError: the data set cannot be listed.
    """
    listing = []
    for split in SPLITS:
        dataset = load_split(config.data, split, work)
        if dataset is None:
            continue
        for sample in dataset.samples:
            files = [sample.image, _mask_file(config, dataset, split, sample), _strong_mask_file(config, dataset, sample)]
            listing.append(((split, sample.id, _tags(sample)), files))
    contents = contents_of(work)
    found = contents.digests(path for _, files in listing for path in files if path is not None)
    contents.save()
    return {"files": digest([[*photo, [path and found.get(path) for path in files]] for photo, files in listing])}


def _write_quarantine(path: Path, problems: list[tuple]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["split", "id", "path", "reason"])
    writer.writerows(problems)
    write_text(path, text.getvalue())


def _mask_digest(config: Config, dataset: Dataset, split: str) -> str:
    files = [_mask_file(config, dataset, split, sample) for sample in dataset.samples]
    contents = {file: digest(file.read_bytes().hex()) for file in set(files) if file is not None and file.is_file()}
    return digest([file and contents.get(file) for file in files])


def _say(findings: list[str]) -> None:
    """What the doctor has found, in short."""
    for finding in findings:
        short = finding if len(finding) <= LONGEST_LINE else f"{finding[:LONGEST_LINE]} ..."
        console.print(f"  {short}", style="yellow", markup=False)
    if findings:
        console.print("  tfwsss data check CONFIG says more", markup=False)


def photos_to_train_on(train: Dataset, found: list[Inspection]) -> list[Photo]:
    """The usable photos, by what decides how much is written for them."""
    usable = [(sample, photo) for sample, photo in zip(train.samples, found, strict=True) if not photo.reason]
    return [Photo(math.prod(reduced_size(photo.height, photo.width, train.long_side)), max(len(sample.tags), 1)) for sample, photo in usable]


def start_warnings(config: Config, diagnosis: Diagnosis, train: Dataset, folders: list[Path]) -> list[str]:
    """What the photos' sizes say of the settings and the disk.

    Args:
        config: of the run.
        diagnosis: of the data set.
        train: the training photos.
        folders: those that stages write.
    """
    sizes = diagnosis.splits["train"]
    height, width = sizes.height[1], sizes.width[1]
    photos = [*crop_warnings(config, *reduced_size(height, width, train.long_side)), *large_photo_warnings(config, height, width)] if height else []
    return [*photos, *space_warnings(config, photos_to_train_on(train, diagnosis.photos["train"]), folders)]


def _require_disk(config: Config, work: Path, train: Dataset, photos: list[Inspection]) -> None:
    """Refuse a disk that not even the maps and labels of all photos fit on."""
    needed = maps(config, photos_to_train_on(train, photos)) + LEAST_FREE
    free = shutil.disk_usage(work).free
    if free < needed:
        raise DataError(f"{work}: {free / 1e9:.2f} GB free, the maps of {len(train)} photos need about {needed / 1e9:.2f} GB; choose another work_dir")


def _require_few(bad: int, total: int, allowed: float, what: str, more: str) -> None:
    if bad > allowed * total:
        raise DataError(f"{bad} of {total} {what} are unusable, more than data.max_bad_fraction {allowed:g} allows; {more}")


def run(context: Context) -> dict[str, float]:
    config = context.config
    folder = context.folder("data")
    train_photos = load_split(config.data, "train", context.work)
    assert train_photos is not None  # only evaluation photos may be missing
    require_classes(config.affinity_labels.shares or {}, train_photos.classes)
    datasets: dict[Split, Dataset | None] = {"train": train_photos, "val": load_split(config.data, "val", context.work)}
    tags = config.data.untagged == "leave_out"
    with progress_bar("check photos", sum(len(dataset) for dataset in datasets.values() if dataset), config.runtime.progress) as bar:
        diagnosis = diagnose(train_photos, datasets["val"], worker_count(config.runtime.workers), bar.advance, require_tags=tags)
    problems: list[tuple] = []
    unscored: dict[str, list[str]] = {}
    usable: dict[str, Any] = {"unscored": unscored}
    digests: dict[str, str] = {}
    metrics: dict[str, float] = {}
    for split, dataset in datasets.items():
        if dataset is None:
            usable[split], unscored[split], digests[split], digests[f"{split}_masks"] = [], [], digest(None), digest(None)
            continue
        found, contents = sort_out(dataset, diagnosis.photos[split], require_tags=split == "train" and tags)
        examined = diagnosis.masks[split]
        masks = examined.unusable if examined else []
        if dataset.strong_masks is not None:
            damaged, strong = check_strong_masks(dataset.subset(contents))
            found += damaged
            contents = {name: content for name, content in contents.items() if name not in {problem.id for problem in damaged}}
            usable[STRONG_MASKS], digests[STRONG_MASKS] = sorted(strong), digest(strong)
            metrics["train_strong_masks"] = len(strong)
        problems += [(split, problem.id, problem.path, problem.reason) for problem in found]
        problems += [(split, problem.id, problem.path, f"not scored, mask: {problem.reason}") for problem in masks if problem.id in contents]
        usable[split] = sorted(contents)
        unscored[split] = sorted({problem.id for problem in masks} & contents.keys())
        kept = dataset.subset(contents)
        as_read = [] if kept.long_side is None else [kept.long_side]
        digests[split] = digest([kept.classes, [[sample.id, _tags(sample), contents[sample.id]] for sample in kept.samples], *as_read])
        digests[f"{split}_masks"] = _mask_digest(config, kept, split)
        metrics |= {f"{split}_images": len(contents), f"{split}_quarantined": len(found)}
    _write_quarantine(folder / QUARANTINE, problems)
    context.run.artifact(folder / QUARANTINE)
    for split, image_id, _, reason in problems[:10]:
        console.print(f"  left out ({split}) {image_id}: {reason}", markup=False)
    if problems:
        console.print(f"  {len(problems)} photos or masks left out, all in {folder / QUARANTINE}", markup=False)
    warnings = [*diagnosis.warnings, *start_warnings(config, diagnosis, train_photos, [context.work / name for name in NAMES])]
    _say([finding for finding in (*diagnosis.errors, *warnings) if "photos left out" not in finding])
    train, bad, allowed = len(usable["train"]), int(metrics["train_quarantined"]), config.data.max_bad_fraction
    _require_few(bad, train + bad, allowed if train else -1, "training photos", f"see {folder / QUARANTINE}")
    for name, findings in diagnosis.masks.items():
        if findings and (unusable := findings.unusable):
            first = f"the first is {unusable[0].path} ({unusable[0].reason})"
            scored = findings.report.masks + len(findings.problems[UNREADABLE])
            _require_few(len(unusable), scored, allowed, f"masks of {name}", f"{first}; all are in {folder / QUARANTINE}; mend them, or run without masks")
    _require_disk(config, context.work, train_photos, diagnosis.photos["train"])
    if STRONG_MASKS in usable and not usable[STRONG_MASKS]:
        raise DataError(f"data.strong_masks: none of the {train} training photos has a mask in {config.data.strong_masks}")
    write_json(folder / USABLE, usable)
    write_json(folder / DIGESTS, digests)
    return metrics


STAGE = Stage(
    name="data",
    run=run,
    data=("files",),
    signatures=file_signatures,
    settings=("data",),
    code=("tfwsss_pipelines.stages.data", "tfwsss.data.check", "tfwsss.data.doctor", "tfwsss.data.mask_check", "tfwsss.data.near_duplicates", "tfwsss.data.strong_masks", "tfwsss.data.names", "tfwsss.data.image"),
)
