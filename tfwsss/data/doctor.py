"""The data set doctor: what is wrong with a data set, and what is worth knowing, before hours of training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from tfwsss.data.check import Inspection, inspect_images
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.mask_check import OTHER_SIZE, UNKNOWN_VALUES, UNREADABLE, MaskFindings, MaskReport, examine_masks
from tfwsss.data.near_duplicates import alike

EXAMPLES = 5  # names given with a finding
DARK = 20  # of 255; 12 bits stored in 16 reach 15


@dataclass(frozen=True)
class SplitReport:
    """Tables of one split.

    Attributes:
        images: number of samples; usable: those a run would keep.
        class_counts: photos for each class.
        unknown: for each class, photos of which nobody knows whether they show it.
        co_occurrence: [C][C] photos that have both classes; the diagonal repeats class_counts.
        tags_per_image: number of photos with so many tags.
        height, width: (smallest, median, largest) in pixels of the photos that can be decoded.
        masks: None when the split has no masks.
    """

    images: int
    usable: int
    class_counts: dict[str, int]
    unknown: dict[str, int]
    co_occurrence: list[list[int]]
    tags_per_image: dict[int, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]
    masks: MaskReport | None


@dataclass
class Diagnosis:
    """Findings and tables.

    Attributes:
        classes: class names without background.
        splits: a report for "train" and, where there is one, "val".
        errors: findings that leave photos out or make results wrong.
        warnings: findings to look at.
        photos, masks: what was found in each, by split; not part of the text and of `to_dict`.
    """

    classes: tuple[str, ...]
    splits: dict[str, SplitReport] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    photos: dict[str, list[Inspection]] = field(default_factory=dict, repr=False)
    masks: dict[str, MaskFindings | None] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict:
        """Everything in JSON's types."""
        shown = {"classes": self.classes, "errors": self.errors, "warnings": self.warnings}
        return {"splits": {split: asdict(report) for split, report in self.splits.items()}, **shown}

    def render(self) -> str:
        """Plain text for a terminal."""
        lines = []
        for split, report in self.splits.items():
            lines += [f"{split}: {report.images} photos, {report.usable} usable", ""]
            lines += _render_split(report, self.classes) + [""]
        for title, findings in (("Errors", self.errors), ("Warnings", self.warnings)):
            lines.append(f"{title}: {len(findings) or 'none'}")
            lines += [f"  - {finding}" for finding in findings]
        return "\n".join(lines) + "\n"


def diagnose(
    train: Dataset,
    val: Dataset | None = None,
    workers: int = 0,
    on_progress: Callable[[int], None] | None = None,
    *,
    require_tags: bool = True,
) -> Diagnosis:
    """Examine a data set: photos, duplicates also across the splits, tags, masks.

    Args:
        train, val: the two splits, as the readers deliver them.
        workers: processes that decode photos; 0: one a core.
        on_progress: called with the number of photos done since the last call.
        require_tags: whether a training photo without a tag is an error (data.untagged: leave_out).
    """
    diagnosis = Diagnosis(train.classes)
    found = diagnosis.photos
    for split, dataset in (("train", train), ("val", val)):
        if dataset is None:
            continue
        found[split] = inspect_images(dataset, workers, on_progress)
        _examine_photos(diagnosis, split, dataset, found[split])
        _examine_tags(diagnosis, split, dataset, require_tags)
        diagnosis.masks[split] = examine_masks(dataset, found[split])
        masks = _examine_masks(diagnosis, split, diagnosis.masks[split])
        diagnosis.splits[split] = _tables(dataset, found[split], masks, require_tags and split == "train")
    _examine_class_names(diagnosis, train, val)
    _examine_duplicates(diagnosis, {"train": train, "val": val}, found)
    return diagnosis


def _named(names: list[str]) -> str:
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more


def _examine_photos(diagnosis: Diagnosis, split: str, dataset: Dataset, found: list[Inspection]) -> None:
    by_kind = defaultdict(list)
    for sample, inspection in zip(dataset.samples, found, strict=True):
        if inspection.reason:
            by_kind[inspection.reason.split(":")[0]].append(f"{sample.image} ({inspection.reason})")
    for kind, names in sorted(by_kind.items()):
        diagnosis.errors.append(f"{split}: {len(names)} photos left out, {kind}: {_named(names)}")
    dark = [f"{sample.id} ({inspection.brightest})" for sample, inspection in zip(dataset.samples, found, strict=True) if 0 <= inspection.brightest < DARK]
    if dark:
        diagnosis.warnings.append(
            f"{split}: {len(dark)} photos are nearly black (largest value of 255), as are 10 or 12 bits stored in 16: {_named(dark)}; stretch them"
        )


def _examine_tags(diagnosis: Diagnosis, split: str, dataset: Dataset, require_tags: bool) -> None:
    bare = [sample.id for sample in dataset.samples if not sample.tags]
    if bare and require_tags and split == "train":
        diagnosis.errors.append(f"train: {len(bare)} photos left out, no tag: {_named(bare)}")
    elif bare:
        diagnosis.warnings.append(f"{split}: {len(bare)} photos without a tag count as background: {_named(bare)}")
    diagnosis.warnings.extend(f"{split}: {remark}" for remark in dataset.remarks)
    if dataset.unknown_tags:
        listed = [f"{tag!r} ({count})" for tag, count in sorted(dataset.unknown_tags, key=lambda item: -item[1])]
        diagnosis.warnings.append(f"{split}: tags that are no class were dropped (photos): {', '.join(listed)}")
    counts = dataset.tag_matrix().sum(axis=0)
    if split == "train" and (everywhere := [name for name, count in zip(dataset.classes, counts, strict=True) if count == len(dataset) > 1]):
        diagnosis.warnings.append(
            f"train: every photo has the tag {_named(everywhere)}: nothing tells the classifier where it is; "
            "add photos without it (of none of the classes: data.untagged: background)"
        )
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0]
    if absent:
        target = diagnosis.errors if split == "train" else diagnosis.warnings
        target.append(f"{split}: no photo has the tag {_named(absent)}")


def _examine_class_names(diagnosis: Diagnosis, train: Dataset, val: Dataset | None) -> None:
    spellings = defaultdict(set)
    unknown = train.unknown_tags + (val.unknown_tags if val is not None else ())
    for name in (*train.classes, *(tag for tag, _ in unknown)):
        spellings[name.casefold()].add(name)
    for names in spellings.values():
        if len(names) > 1:
            diagnosis.warnings.append(f"tags that differ only by case: {', '.join(sorted(names))}")
    if val is not None and val.classes != train.classes:
        diagnosis.errors.append(f"the classes differ: train has {train.classes}, val has {val.classes}")


def _examine_duplicates(diagnosis: Diagnosis, splits: dict, found: dict[str, list[Inspection]]) -> None:
    places: defaultdict[str, defaultdict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))  # digest -> split -> samples
    for split, inspections in found.items():
        for sample, inspection in zip(splits[split].samples, inspections, strict=True):
            if inspection.digest:
                places[inspection.digest][split].append(sample)
    leaks = [by["train"] + by["val"] for by in places.values() if "train" in by and "val" in by]
    if leaks:
        names = [f"{same[0].id} = {same[-1].id}" for same in leaks]
        diagnosis.errors.append(f"{len(leaks)} photos are in train and in val, scores are too good: {_named(names)}")
    for split in found:
        groups = [by[split] for by in places.values() if len(by[split]) > 1]
        if groups:
            names = [" = ".join(sample.id for sample in group) for group in groups]
            diagnosis.warnings.append(f"{split}: {len(groups)} photos occur more than once: {_named(names)}")
        unequal = [g for g in groups if len({sample.tags for sample in g}) > 1]
        if unequal:
            names = [" = ".join(sample.id for sample in group) for group in unequal]
            diagnosis.errors.append(f"{split}: {len(unequal)} equal photos have unequal tags: {_named(names)}")
    if splits["val"] is not None:
        _examine_likeness(diagnosis, splits, found)
        both = sorted({s.id for s in splits["train"].samples} & {s.id for s in splits["val"].samples})
        if both:
            diagnosis.errors.append(f"{len(both)} ids are in train and in val: {_named(both)}")


def _examine_likeness(diagnosis: Diagnosis, splits: dict, found: dict[str, list[Inspection]]) -> None:
    """Photos of val that belong to, or look like, photos of train."""
    groups = {split: {sample.group for sample in splits[split].samples if sample.group} for split in ("train", "val")}
    if both := sorted(groups["train"] & groups["val"]):
        diagnosis.errors.append(f"{len(both)} groups are in train and in val, scores are too good: {_named(both)}")
    names = []
    for index, other in alike([one.thumbnail for one in found["val"]], [one.thumbnail for one in found["train"]]):
        if found["val"][index].digest != found["train"][other].digest:  # equal ones are errors of their own
            names.append(f"{splits['val'].samples[index].id} ~ {splits['train'].samples[other].id}")
    if names:
        diagnosis.warnings.append(
            f"val: {len(names)} photos look like one of train, scores may be too good: {_named(names)}; photos of one thing belong to one group (a column `group`)"
        )


def _examine_masks(diagnosis: Diagnosis, split: str, findings: MaskFindings | None) -> MaskReport | None:
    if findings is None:
        return None
    if findings.missing:
        diagnosis.warnings.append(f"{split}: {len(findings.missing)} photos have no mask and are not scored: {_named(findings.missing)}")
    for kind in (UNREADABLE, OTHER_SIZE, UNKNOWN_VALUES):
        if problems := findings.problems[kind]:
            names = [problem.reason if kind == UNREADABLE else f"{problem.id} ({problem.reason})" for problem in problems]
            article = "" if kind == UNKNOWN_VALUES else "a "
            diagnosis.errors.append(f"{split}: {len(problems)} photos have {article}{kind}: {_named(names)}")
    if findings.disagreeing:
        diagnosis.warnings.append(f"{split}: tags and mask disagree in {findings.disagreeing} of {findings.report.masks} photos")
    return findings.report


def _tables(dataset: Dataset, found: list[Inspection], masks: MaskReport | None, require_tags: bool) -> SplitReport:
    tags = dataset.tag_matrix().astype(np.int64)
    usable = sum(
        1 for s, i in zip(dataset.samples, found, strict=True) if not i.reason and (s.tags or not require_tags)
    )
    return SplitReport(
        images=len(dataset),
        usable=usable,
        class_counts=dict(zip(dataset.classes, tags.sum(axis=0).tolist(), strict=True)),
        unknown=dict(zip(dataset.classes, (len(dataset) - dataset.known_matrix().sum(axis=0)).astype(int).tolist(), strict=True)),
        co_occurrence=(tags.T @ tags).tolist(),
        tags_per_image=dict(sorted(Counter(tags.sum(axis=1).tolist()).items())),
        height=_spread([inspection.height for inspection in found if inspection.height]),
        width=_spread([inspection.width for inspection in found if inspection.width]),
        masks=masks,
    )


def _spread(values: list[int]) -> tuple[int, int, int]:
    return (min(values), int(np.median(values)), max(values)) if values else (0, 0, 0)


def _render_split(report: SplitReport, classes: tuple[str, ...]) -> list[str]:
    side = max([len(name) for name in classes] + [len("class")])
    cell = max(len(str(report.images)), 4)
    doubtful = any(report.unknown.values())
    head = ["class".ljust(side), "photos"] + (["unknown"] if doubtful else []) + (["tag, not drawn", "drawn, no tag"] if report.masks else [])
    lines = ["  " + "  ".join(head)]
    for name in classes:
        row = [name.ljust(side), str(report.class_counts[name]).rjust(6)] + ([str(report.unknown[name]).rjust(7)] if doubtful else [])
        if report.masks:
            row.append(str(report.masks.tagged_not_drawn[name]).rjust(14))
            row.append(str(report.masks.drawn_not_tagged[name]).rjust(13))
        lines.append("  " + "  ".join(row))
    lines += ["", "  photos with both classes"]
    lines.append("  " + " " * side + "".join(f"{index + 1:{cell + 1}}" for index in range(len(classes))))
    for index, name in enumerate(classes):
        counts = "".join(f"{count:{cell + 1}}" for count in report.co_occurrence[index])
        lines.append(f"  {name.ljust(side)}{counts}  {index + 1}")
    lines += ["", "  tags a photo: " + ", ".join(f"{n}: {count}" for n, count in report.tags_per_image.items())]
    for title, (low, middle, high) in (("width", report.width), ("height", report.height)):
        lines.append(f"  {title}: {low} to {high} px, median {middle}")
    if report.masks:
        lines.append(f"  masks: {report.masks.masks}, {report.masks.ignored:.1%} of their pixels are ignored")
    return lines
