"""Stage `data`: makes the data set available, checks every photo, and sets the bad ones aside.

data/quarantine.csv     photos left out, with the reason
data/usable.json        ids of the others, for each split
data/digests.json       digests of their content, part of every later stage's fingerprint
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tfwsss.config import CocoData, Config
from tfwsss.data import Dataset, load_split
from tfwsss.data.check import check_images
from tfwsss.errors import DataError
from tfwsss.processes import worker_count
from tfwsss.storage.atomic import write_json, write_text

from ..engine.contents import contents_of
from ..engine.context import DIGESTS, USABLE, Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage, digest

SPLITS = ("train", "val")
QUARANTINE = "quarantine.csv"


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


def run(context: Context) -> dict[str, float]:
    config = context.config
    folder = context.folder("data")
    workers = worker_count(config.runtime.workers)
    problems, usable, digests, metrics = [], {}, {}, {}
    for split in SPLITS:
        dataset = load_split(config.data, split, context.work)
        if dataset is None:
            usable[split], digests[split], digests[f"{split}_masks"] = [], digest(None), digest(None)
            continue
        for remark in dataset.remarks:
            console.print(f"  {split}: {remark}", markup=False)
        with progress_bar(f"check {split} photos", len(dataset.samples), config.runtime.progress) as bar:
            found, contents = check_images(dataset, workers, bar.advance, require_tags=split == "train" and config.data.untagged == "leave_out")
        problems += [(split, problem.id, problem.path, problem.reason) for problem in found]
        usable[split] = sorted(contents)
        kept = dataset.subset(contents)
        digests[split] = digest([kept.classes, [[sample.id, sample.tags, contents[sample.id]] for sample in kept.samples]])
        digests[f"{split}_masks"] = _mask_digest(config, kept, split)
        metrics |= {f"{split}_images": len(contents), f"{split}_quarantined": len(found)}
    _write_quarantine(folder / QUARANTINE, problems)
    context.run.artifact(folder / QUARANTINE)
    for split, image_id, _, reason in problems[:10]:
        console.print(f"  left out ({split}) {image_id}: {reason}", markup=False)
    if problems:
        console.print(f"  {len(problems)} photos left out, all in {folder / QUARANTINE}", markup=False)
    train, bad = len(usable["train"]), metrics["train_quarantined"]
    if train == 0 or bad > config.data.max_bad_fraction * (train + bad):
        raise DataError(
            f"{bad} of {train + bad} training photos are unusable, more than data.max_bad_fraction "
            f"{config.data.max_bad_fraction:g} allows; see {folder / QUARANTINE}"
        )
    write_json(folder / USABLE, usable)
    write_json(folder / DIGESTS, digests)
    return metrics


STAGE = Stage(
    name="data",
    run=run,
    data=("files",),
    signatures=file_signatures,
    settings=("data",),
    code=("tfwsss_pipelines.stages.data", "tfwsss.data.check", "tfwsss.data.image"),
)
