"""What the stages leave on disk: CAM archives and indexed label PNGs. One reader and one writer for each.

    cams/<id>.npz              classes int32 [K], size int32 [2], and scale_0, scale_1, ...: float16 or float32 [K, h, w], see `save_cam`
    affinity_labels/<id>.png   0 background, k+1 class k, 255 ignore
    affinity_labels/<id>.npz   only for label_source "scores": classes int32 [K], low and high float16 [K+1, H, W],
                               the CRF's scores for the two alphas; channel 0 is background
    walk/<id>.npz              classes int32 [K], walked float32 [K+1, h, w]: the random walk's scores on the stride-8 grid, channel 0 is background
    walk/<id>.png              only where masks will score the walk: at how many background exponents a pixel is foreground,
                               see `tfwsss.pseudolabel.exponents_won`
    pseudo_labels/<id>.png     as affinity_labels; so are label_votes/plain/<id>.png and label_votes/normalised/<id>.png
    label_audit/pixels/<id>.png   confidence of every pixel, grey

An id is a relative path without suffix ("2007_000032", "farm/dog 3"); ids that would leave the folder are refused.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.interpolation import enlarged_sum
from tfwsss.storage.atomic import atomic_path

IGNORE = 255


@cache
def voc_palette() -> np.ndarray:
    """The PASCAL VOC colour map, read-only [256, 3] uint8: index bits spread over the high bits of R, G and B."""
    palette = np.zeros((256, 3), np.uint8)
    for index in range(256):
        rest = index
        for shift in range(7, -1, -1):
            for channel in range(3):
                palette[index, channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
    palette.flags.writeable = False
    return palette


def artifact_path(folder, image_id: str, suffix: str) -> Path:
    """Path of an image's artefact below `folder`.

    Raises:
        DataError: the id is absolute or climbs out of `folder`.
    """
    relative = Path(image_id)
    if not image_id or relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"image id {image_id!r} does not stay inside its folder")
    return Path(folder) / (image_id + suffix)


@contextlib.contextmanager
def _archive(folder, image_id: str):
    path = artifact_path(folder, image_id, ".npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); remove it and run its stage again") from None


def save_cam(folder, image_id: str, classes, maps: Sequence, size: tuple[int, int], dtype="float16") -> None:
    """Save one image's class activation maps, each scale's at the size that the network gave it.

    Args:
        classes: [K] class indices without background, ascending.
        maps: one [K, h, w] for each scale; the sum of all, enlarged bilinearly to the photo, is in 0..1.
        size: (height, width) of the photo.
        dtype: "float16" or "float32".
    """
    scales: dict[str, Any] = {f"scale_{index}": np.asarray(one, dtype) for index, one in enumerate(maps)}
    with atomic_path(artifact_path(folder, image_id, ".npz")) as path:
        np.savez(path, classes=np.asarray(classes, np.int32), size=np.asarray(size, np.int32), **scales)


def load_cam(folder, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Load (classes int32 [K], CAMs float32 [K, H, W] in 0..1 at the photo's size).

    Raises:
        DataError: the file is damaged, or an earlier version has written it.
    """
    with _archive(folder, image_id) as archive:
        if "size" not in archive:
            raise DataError(f"{artifact_path(folder, image_id, '.npz')}: of an earlier version, which kept one map per class; remove it and run its stage again")
        classes, size = archive["classes"], archive["size"].tolist()
        maps = [archive[f"scale_{index}"] for index in range(len(archive.files) - 2)]
    return classes, enlarged_sum(maps, *size) if maps else np.zeros((0, *size), np.float32)


def save_scores(folder, image_id: str, classes, low, high) -> None:
    """Save one image's CRF scores for the low and the high alpha.

    Args:
        classes: [K] class indices without background, ascending.
        low, high: [K+1, H, W] in 0..1, channel 0 background; kept as float16.
    """
    with atomic_path(artifact_path(folder, image_id, ".npz")) as path:
        np.savez_compressed(
            path,
            classes=np.asarray(classes, np.int32),
            low=np.asarray(low, np.float16),
            high=np.asarray(high, np.float16),
        )


def load_scores(folder, image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load (classes int32 [K], low float32 [K+1, H, W], high float32 [K+1, H, W]) written by `save_scores`."""
    with _archive(folder, image_id) as archive:
        return archive["classes"], archive["low"].astype(np.float32), archive["high"].astype(np.float32)


def save_walk(folder, image_id: str, classes, walked) -> None:
    """Save one image's walked scores on the stride-8 grid.

    Args:
        classes: [K] class indices without background, ascending.
        walked: [K+1, h, w] scores, background first.
    """
    with atomic_path(artifact_path(folder, image_id, ".npz")) as path:
        np.savez(path, classes=np.asarray(classes, np.int32), walked=np.asarray(walked, np.float32))


def load_walk(folder, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Load (classes int32 [K], walked float32 [K+1, h, w]) written by `save_walk`."""
    with _archive(folder, image_id) as archive:
        return archive["classes"], archive["walked"]


def save_label(folder, image_id: str, label) -> None:
    """Save a label map [H, W], or other whole numbers 0..255, as an indexed PNG with the VOC palette."""
    picture = Image.fromarray(np.ascontiguousarray(label, np.uint8))
    picture.putpalette(voc_palette().tobytes())
    with atomic_path(artifact_path(folder, image_id, ".png")) as path:
        picture.save(path)


def keep_label(folder, image_id: str, label) -> None:
    """`save_label`, unless a killed run has left that file: labels are the same whenever they are made."""
    if not artifact_path(folder, image_id, ".png").is_file():
        save_label(folder, image_id, label)


def keep_grey(folder, image_id: str, values) -> None:
    """Save a map [H, W] of 0..1 as an 8-bit grey PNG, 1 white, unless a killed run has left that file."""
    if artifact_path(folder, image_id, ".png").is_file():
        return
    picture = Image.fromarray(np.rint(np.asarray(values) * 255).astype(np.uint8))
    with atomic_path(artifact_path(folder, image_id, ".png")) as path:
        picture.save(path)


def load_label(folder, image_id: str) -> np.ndarray:
    """Load a label map written by `save_label`: [H, W] uint8."""
    path = artifact_path(folder, image_id, ".png")
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders
        raise DataError(f"{path}: damaged ({error}); remove it and run its stage again") from None
