"""Decodes every photo once, in worker processes, so that a bad one is known before training and not in its middle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tfwsss.data.dataset import Dataset
from tfwsss.data.image import read_image, reduced_size
from tfwsss.data.names import unusable_ids
from tfwsss.data.near_duplicates import thumbnail
from tfwsss.errors import ImageError
from tfwsss.processes import isolated_map, usable_cores

MIN_SIDE = 32  # pixels; below, the deepest feature map of every backbone is a single cell
BLOCK = 1 << 20  # bytes hashed at once


@dataclass(frozen=True)
class Problem:
    """Why a photo is left out.

    Attributes:
        id: of its sample.
        path: the photo.
        reason: what was found and what was expected, one line without the path.
    """

    id: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Inspection:
    """What decoding one photo showed.

    Attributes:
        height, width: pixels, upright; 0 when it cannot be decoded.
        digest: BLAKE2b-128 of the file's bytes, hexadecimal; "" when it cannot be read.
        reason: why it is not usable; "" when it is.
        brightest: the largest value of all pixels and channels, 0..255; -1 when it cannot be decoded.
        thumbnail: see `tfwsss.data.near_duplicates`; b"" when it cannot be decoded.
    """

    height: int
    width: int
    digest: str
    reason: str
    brightest: int = -1
    thumbnail: bytes = b""


def inspect_image(path: Path, max_megapixels: float = 50.0) -> Inspection:
    """Decode one photo completely. Never raises for a bad file."""
    try:
        pixels = read_image(path, max_megapixels)
        (height, width), brightest, small = pixels.shape[:2], int(pixels.max()), thumbnail(pixels)
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
    except ImageError as error:
        return Inspection(0, 0, "", str(error).removeprefix(f"{path}: "))
    except OSError as error:  # it went away between decoding and hashing
        return Inspection(0, 0, "", f"cannot be read: {error.strerror}")
    return Inspection(height, width, digest.hexdigest(), "", brightest, small)


def _too_small(found: Inspection, long_side: int | None) -> str:
    """Why an inspected photo has too few pixels to be learnt from; "" when it has enough."""
    height, width = reduced_size(found.height, found.width, long_side)
    if min(height, width) >= MIN_SIDE:
        return ""
    reduced = f" once its long side has {long_side} (data.long_side)" if height < found.height else ""
    return f"too small: {width}x{height} px{reduced}, expected at least {MIN_SIDE}x{MIN_SIDE}"


def inspect_images(
    dataset: Dataset, workers: int = 0, on_progress: Callable[[int], None] | None = None
) -> list[Inspection]:
    """Decode every photo of a data set.

    Args:
        dataset: its masks are not touched.
        workers: processes; 0: one for each core this process may use.
        on_progress: called with the number of photos done since the last call.

    Returns:
        One inspection a sample, in the order of the samples. A photo that kills its worker process is a bad photo, and so is
        one after which no result can be called.
    """
    tasks = [(sample.image, dataset.max_megapixels) for sample in dataset.samples]
    workers = workers or usable_cores()
    results = [Inspection(0, 0, "", "cannot be decoded: the decoder crashed")] * len(tasks)
    for index, result in isolated_map(inspect_image, tasks, workers):
        results[index] = result or results[index]
        if on_progress is not None:
            on_progress(1)
    reasons = unusable_ids(sample.id for sample in dataset.samples)
    for index, sample in enumerate(dataset.samples):
        found = results[index]
        if reason := found.reason or _too_small(found, dataset.long_side) or reasons.get(sample.id, ""):
            results[index] = replace(found, reason=reason)
    return results


def check_images(
    dataset: Dataset,
    workers: int = 0,
    on_progress: Callable[[int], None] | None = None,
    *,
    require_tags: bool = False,
) -> tuple[list[Problem], dict[str, str]]:
    """Find the photos that a run must leave out.

    Reasons: the file is missing, empty, truncated or no image; it is larger than `dataset.max_megapixels`; a side is
    shorter than 32 pixels; results cannot be called after it (`tfwsss.data.names.unusable_ids`); or, with `require_tags` (training), it has no tag.

    Args:
        dataset, workers, on_progress: as in `inspect_images`.
        require_tags: whether a photo without a tag is a problem.

    Returns:
        The problems in the order of the samples, and a digest of the file's bytes (hexadecimal) for every other id.
    """
    return sort_out(dataset, inspect_images(dataset, workers, on_progress), require_tags=require_tags)


def sort_out(dataset: Dataset, inspections: list[Inspection], *, require_tags: bool = False) -> tuple[list[Problem], dict[str, str]]:
    """As `check_images`, of photos that have been inspected."""
    problems, digests = [], {}
    for sample, found in zip(dataset.samples, inspections, strict=True):
        reason = found.reason
        if not reason and require_tags and not sample.tags:
            reason = "no tag: none of the classes is among its tags"
        if reason:
            problems.append(Problem(sample.id, sample.image, reason))
        else:
            digests[sample.id] = found.digest
    return problems, digests
