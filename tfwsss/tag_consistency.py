"""Labels that keep what the tags say: two readings of the walk, their agreement, and what neither of them shows.

A long walk replaces a small map by its mean over the object, and where that is below the background the class vanishes
from the label, although the photo is tagged with it; a segmenter then learns that the class is background. Divided by
their maxima, background too, the walked maps are comparable again (Ahn, Cho & Kwak, CVPR 2019, do so before they choose
the strongest), but weak classes spread too far in photos that need no help. So both labels are made: `agreed_label`
says which one counts where. No mask is needed: a tagged class that has no pixels is an error for certain.

numpy only: the CRF's worker processes import this without TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

import numpy as np

from tfwsss.storage.artifacts import IGNORE


def normalized(walked) -> np.ndarray:
    """Every channel divided by its maximum: walked scores [K+1, h, w] >= 0 -> [K+1, h, w] float32 in 0..1; zeros stay."""
    walked = np.asarray(walked, np.float32)
    largest = walked.max(axis=(1, 2), keepdims=True)
    return np.divide(walked, largest, out=np.zeros_like(walked), where=largest > 0)


def vanished(label, classes, smallest_share: float) -> tuple[int, ...]:
    """The tagged classes that a label has lost.

    Args:
        label: [H, W] of 0 background, k+1 class k, 255 ignore.
        classes: class indices of the photo's tags.
        smallest_share: part of the photo's pixels, 0..1, below which a class counts as lost.

    Returns:
        Ascending class indices.
    """
    pixels = np.bincount(np.asarray(label).ravel(), minlength=IGNORE + 1)
    return tuple(k for k in sorted(int(k) for k in classes) if pixels[k + 1] < smallest_share * pixels.sum())


def mean_kept(photos: Iterable[tuple[Collection[int], Collection[int]]]) -> float:
    """How much of the tags labels show.

    Args:
        photos: (class indices of its tags, those that have `vanished` from its label) of each photo.

    Returns:
        Part of its photos in which a class is still there, mean over the classes, 0..1; 1 without any tag.
    """
    tagged: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    for tags, vanished_ones in photos:
        tagged.update(tags)
        lost.update(vanished_ones)
    return float(np.mean([1 - lost[k] / count for k, count in tagged.items()])) if tagged else 1.0


def missing(plain, normalised, classes, smallest_share: float) -> tuple[int, ...]:
    """Why a photo is no use for training: the tagged classes that its label lacks and that normalising does not bring back.

    Args:
        plain: [H, W] label of the walked scores.
        normalised: [H, W] label of the `normalized` ones.
        classes, smallest_share: as in `vanished`.

    Returns:
        Ascending class indices; () for a photo that can be used.
    """
    return vanished(normalised, classes, smallest_share) if vanished(plain, classes, smallest_share) else ()


def chosen_label(plain, normalised, classes, smallest_share: float) -> np.ndarray:
    """The better of the two labels as a whole: the plain one, the normalised where the plain one has lost a class. [H, W] uint8."""
    return np.asarray(normalised if vanished(plain, classes, smallest_share) else plain, np.uint8)


def confident_label(label, classes, smallest_share: float) -> np.ndarray:
    """A label with ignored pixels as it is; all 255 where a tagged class has vanished from it. Arguments as in `vanished`."""
    label = np.asarray(label, np.uint8)
    return np.full_like(label, IGNORE) if vanished(label, classes, smallest_share) else label


def agreed_label(plain, normalised, classes, smallest_share: float) -> np.ndarray:
    """The label to train on.

    Args:
        plain, normalised, classes, smallest_share: as in `missing`.

    Returns:
        [H, W] uint8. All 255 for a photo with `missing` classes. The normalised label where the plain one has lost a
        class. Otherwise the plain label, and 255 on the pixels where the two differ.
    """
    plain, normalised = np.asarray(plain, np.uint8), np.asarray(normalised, np.uint8)
    if missing(plain, normalised, classes, smallest_share):
        return np.full_like(plain, IGNORE)
    label = chosen_label(plain, normalised, classes, smallest_share)
    return label if label is normalised else np.where(plain == normalised, plain, np.uint8(IGNORE))
