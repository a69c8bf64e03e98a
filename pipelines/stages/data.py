"""Stage `data`: makes the data set available, checks every photo, and sets the bad ones aside.

data/quarantine.csv     photos left out, and masks that are not scored with, with the reason
data/usable.json        ids of the other photos, for each split, and of those that are not scored
data/digests.json       digests of their content, part of every later stage's fingerprint
"""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np

from tfwsss.config import CocoData, Config
from tfwsss.data import Dataset, load_split
from tfwsss.data.check import Inspection, sort_out
from tfwsss.data.doctor import diagnose
from tfwsss.data.mask_check import UNREADABLE
from tfwsss.errors import DataError
from tfwsss.processes import worker_count
from tfwsss.storage.atomic import write_json, write_text

from ..engine.contents import contents_of
from ..engine.context import DIGESTS, USABLE, Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage, digest

SPLITS = ("train", "val")
QUARANTINE = "quarantine.csv"
LONGEST_LINE = 240  # characters of a finding
LEAST_FREE = 20_000_000  # bytes


def _mask_file(config: Config, dataset: Dataset, split: str, sample) -> Path | None:
    """The file a sample's mask is read from."""
    if dataset.masks is None:
        return None
    if isinstance(config.data, CocoData):
        return config.data.train_json if split == "train" else config.data.val_json
    return dataset.masks.path(sample)


def file_signatures(config: Config, work: Path) -> dict[str, str]:
    """Digest that changes when the content of a photo, a tag or a mask changes: what the first stage's fingerprint is made of.

    Raises:
        DataError: the data set cannot be listed.
    """
    listing = []
    for split in SPLITS:
        dataset = load_split(config.data, split, work)
        for sample in dataset.samples if dataset else ():
            listing.append([split, sample.id, sample.tags, sample.image, _mask_file(config, dataset, split, sample)])
    contents = contents_of(work)
    found = contents.digests(path for *_, image, mask in listing for path in (image, mask) if path is not None)
    contents.save()
    return {"files": digest([[*rest, found[image], found.get(mask)] for *rest, image, mask in listing])}


def _write_quarantine(path: Path, problems: list[tuple]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["split", "id", "path", "reason"])
    writer.writerows(problems)
    write_text(path, text.getvalue())


def _mask_digest(config: Config, dataset: Dataset, split: str) -> str:
    files = [_mask_file(config, dataset, split, sample) for sample in dataset.samples]
    contents = {file: digest(file.read_bytes().hex()) for file in set(files) if file is not None and file.is_file()}
    return digest([contents.get(file) for file in files])


def _say(findings: list[str]) -> None:
    """What the doctor has found, in short."""
    for finding in findings:
        short = finding if len(finding) <= LONGEST_LINE else f"{finding[:LONGEST_LINE]} ..."
        console.print(f"  {short}", style="yellow", markup=False)
    if findings:
        console.print("  tfwsss data check CONFIG says more", markup=False)


def _require_disk(config: Config, work: Path, train: Dataset, photos: list[Inspection]) -> None:
    """Refuse a disk that the maps of all photos, compressed to half of what they would otherwise need, do not fit on."""
    pixels = sum(found.height * found.width * max(len(sample.tags), 1) for sample, found in zip(train.samples, photos, strict=True))
    needed = pixels * np.dtype(config.cams.dtype).itemsize // 2
    free = shutil.disk_usage(work).free
    if free < needed + LEAST_FREE:
        raise DataError(f"{work}: {free / 1e9:.2f} GB free, the maps of {len(train)} photos need about {(needed + LEAST_FREE) / 1e9:.2f} GB; choose another work_dir")


def _require_few(bad: int, total: int, allowed: float, what: str, more: str) -> None:
    if bad > allowed * total:
        raise DataError(f"{bad} of {total} {what} are unusable, more than data.max_bad_fraction {allowed:g} allows; {more}")


def run(context: Context) -> dict[str, float]:
    config = context.config
    folder = context.folder("data")
    datasets = {split: load_split(config.data, split, context.work) for split in SPLITS}
    tags = config.data.untagged == "leave_out"
    with progress_bar("check photos", sum(len(dataset) for dataset in datasets.values() if dataset), config.runtime.progress) as bar:
        diagnosis = diagnose(*datasets.values(), worker_count(config.runtime.workers), bar.advance, require_tags=tags)
    problems, usable, digests, metrics = [], {"unscored": {}}, {}, {}
    for split, dataset in datasets.items():
        if dataset is None:
            usable[split], usable["unscored"][split], digests[split], digests[f"{split}_masks"] = [], [], digest(None), digest(None)
            continue
        found, contents = sort_out(dataset, diagnosis.photos[split], require_tags=split == "train" and tags)
        masks = diagnosis.masks[split].unusable if diagnosis.masks[split] else []
        problems += [(split, problem.id, problem.path, problem.reason) for problem in found]
        problems += [(split, problem.id, problem.path, f"not scored, mask: {problem.reason}") for problem in masks if problem.id in contents]
        usable[split] = sorted(contents)
        usable["unscored"][split] = sorted({problem.id for problem in masks} & contents.keys())
        kept = dataset.subset(contents)
        digests[split] = digest([kept.classes, [[sample.id, sample.tags, contents[sample.id]] for sample in kept.samples]])
        digests[f"{split}_masks"] = _mask_digest(config, kept, split)
        metrics |= {f"{split}_images": len(contents), f"{split}_quarantined": len(found)}
    _write_quarantine(folder / QUARANTINE, problems)
    context.run.artifact(folder / QUARANTINE)
    for split, image_id, _, reason in problems[:10]:
        console.print(f"  left out ({split}) {image_id}: {reason}", markup=False)
    if problems:
        console.print(f"  {len(problems)} photos or masks left out, all in {folder / QUARANTINE}", markup=False)
    _say([finding for finding in (*diagnosis.errors, *diagnosis.warnings) if "photos left out" not in finding])
    train, bad, allowed = len(usable["train"]), metrics["train_quarantined"], config.data.max_bad_fraction
    _require_few(bad, train + bad, allowed if train else -1, "training photos", f"see {folder / QUARANTINE}")
    for split, findings in diagnosis.masks.items():
        if findings and (unusable := findings.unusable):
            first = f"the first is {unusable[0].path} ({unusable[0].reason})"
            scored = findings.report.masks + len(findings.problems[UNREADABLE])
            _require_few(len(unusable), scored, allowed, f"masks of {split}", f"{first}; all are in {folder / QUARANTINE}; mend them, or run without masks")
    _require_disk(config, context.work, datasets["train"], diagnosis.photos["train"])
    write_json(folder / USABLE, usable)
    write_json(folder / DIGESTS, digests)
    return metrics


STAGE = Stage(
    name="data",
    run=run,
    data=("files",),
    signatures=file_signatures,
    settings=("data",),
    code=("tfwsss_pipelines.stages.data", "tfwsss.data.check", "tfwsss.data.doctor", "tfwsss.data.mask_check", "tfwsss.data.names", "tfwsss.data.image"),
)
