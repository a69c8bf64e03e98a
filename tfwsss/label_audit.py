"""How far a photo's label can be trusted, judged without a mask.

Two signs tell right labels from wrong ones: whether the label of the walked maps and that of the normalised ones agree
(`tfwsss.tag_consistency`), and by how much the strongest of the normalised maps exceeds the next. Where the classifier
looks at the wrong thing, or the walk runs over an edge, both are low. Each counts half.

numpy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfwsss.tag_consistency import chosen_label, vanished


class Doubt(NamedTuple):
    """One tagged class of one photo.

    Attributes:
        photo: id.
        label_class: class index.
        confidence: 0..1; 0 for a class that is in no label.
        share: part of the photo's pixels that the label gives the class.
        reason: what most speaks against the label.
    """

    photo: str
    label_class: int
    confidence: float
    share: float
    reason: str


def agreement(label, other, value: int) -> float:
    """Intersection over union of one value in two label maps [H, W], 0..1; 0 where neither has a pixel of it."""
    one, two = np.asarray(label) == value, np.asarray(other) == value
    union = np.count_nonzero(one | two)
    return np.count_nonzero(one & two) / union if union else 0.0


def margin(scores) -> np.ndarray:
    """By how much the strongest channel exceeds the next: [C, H, W] in 0..1 -> [H, W] in 0..1; 1 with a single channel."""
    scores = np.asarray(scores, np.float32)
    if len(scores) == 1:
        return np.ones(scores.shape[1:], np.float32)
    next_best, best = np.partition(scores, -2, axis=0)[-2:]
    return best - next_best


def pixel_confidence(plain, normalised, scores) -> np.ndarray:
    """Confidence of every pixel: half the `margin`, and one half more where both labels agree.

    Args:
        plain, normalised: [H, W] labels of the walked and of the normalised maps.
        scores: [K+1, H, W] normalised walked maps in 0..1, background first.

    Returns:
        [H, W] float32 in 0..1.
    """
    return (margin(scores) + (np.asarray(plain) == normalised)) / 2


def audit_photo(photo: str, classes, plain, normalised, scores, smallest_share: float) -> list[Doubt]:
    """Confidence of every tagged class of a photo: mean of the labels' agreement on it and of the margin on its pixels.

    Args:
        photo: its id.
        classes: class indices of its tags.
        plain, normalised, scores: as in `pixel_confidence`.
        smallest_share: as in `tfwsss.tag_consistency.vanished`.
    """
    lost = vanished(plain, classes, smallest_share)
    label = chosen_label(plain, normalised, classes, smallest_share)
    still_lost = vanished(label, classes, smallest_share)
    lead = margin(scores)
    doubts = []
    for k in sorted(int(k) for k in classes):
        region = label == k + 1
        both, ahead = agreement(plain, normalised, k + 1), float(lead[region].mean()) if region.any() else 0.0
        if k in still_lost:
            reason = "has vanished from the label"
        elif k in lost:
            reason = "has vanished from the walk, is back in the normalised one"
        elif both <= ahead:
            reason = f"walk and normalised walk agree on {both:.0%}"
        else:
            reason = f"is {ahead:.0%} ahead of the next map"
        doubts.append(Doubt(photo, k, (both + ahead) / 2, np.count_nonzero(region) / label.size, reason))
    return doubts
