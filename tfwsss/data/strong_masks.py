"""Masks that a person drew for training to learn from (`data.strong_masks`), apart from those that only scores may read."""

from __future__ import annotations

import hashlib

import numpy as np

from tfwsss.config import TaggedData, VocData
from tfwsss.data.check import Problem
from tfwsss.data.dataset import Dataset, MaskFolder
from tfwsss.data.image import image_size
from tfwsss.errors import DataError


def strong_mask_folder(config: VocData | TaggedData, labels: tuple[tuple[int, int], ...]) -> MaskFolder | None:
    """`data.strong_masks` of a data set whose masks are files, for `Dataset.strong_masks`; None where it names none.

    Args:
        config: of the data set.
        labels: see `MaskFolder`.

    Raises:
        DataError: the folder does not exist.
    """
    if config.strong_masks is None:
        return None
    folder = config.root / config.strong_masks
    if not folder.is_dir():
        raise DataError(f"data.strong_masks: {folder} is not a folder")
    return MaskFolder(folder, labels, config.max_megapixels)


def check_strong_masks(dataset: Dataset) -> tuple[list[Problem], dict[str, str]]:
    """Find the photos whose strong mask nobody can learn from: it is damaged, or of another size than the photo.

    Args:
        dataset: photos that can be decoded.

    Returns:
        The problems, and a digest (hexadecimal) of the label map of every other photo that has one, by id.
    """
    problems, digests, dataset = [], {}, dataset.at_full_size()
    for sample in dataset.samples:
        try:
            mask, size = dataset.strong_mask(sample), image_size(sample.image)
        except DataError as error:
            problems.append(Problem(sample.id, sample.image, f"its strong mask: {error}"))
            continue
        if mask is None:
            continue
        if mask.shape != size:
            reason = f"its strong mask has {mask.shape[1]}x{mask.shape[0]} px, expected the photo's {size[1]}x{size[0]}"
            problems.append(Problem(sample.id, sample.image, reason))
        else:
            digests[sample.id] = hashlib.blake2b(np.ascontiguousarray(mask).tobytes(), digest_size=16).hexdigest()
    return problems, digests
