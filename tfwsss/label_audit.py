"""How far a photo's label can be trusted, judged without a mask by readings that were made in different ways.

The readings are the label of the walked maps, that of the normalised ones (`tfwsss.tag_consistency`), and the sure
pixels of the CAMs after a CRF (`tfwsss.background.combine_crf`), which the walk has not seen. Where a label is right
they seldom differ; where the classifier looks at the wrong thing, or the walk runs over an edge, they do.

numpy only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfwsss.storage.artifacts import IGNORE
from tfwsss.tag_consistency import chosen_label, vanished


class Doubt(NamedTuple):
    """One tagged class of one photo.

    Attributes:
        photo: id.
        label_class: class index.
        confidence: 0..1, mean agreement of the label with the other readings; 0 for a class that is in no label.
        share: part of the photo's pixels that the label gives the class.
        reason: what most speaks against the label.
    """

    photo: str
    label_class: int
    confidence: float
    share: float
    reason: str


def agreement(label, reading, value: int) -> float:
    """Intersection over union of one value in two label maps, over the pixels that the reading does not ignore.

    Args:
        label, reading: [H, W] label maps.
        value: 0 background, k+1 class k.

    Returns:
        0..1; 0 where neither has a pixel of it: a tagged class that nobody finds is no agreement.
    """
    known = reading != IGNORE
    one, other = (label == value) & known, (reading == value) & known
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def pixel_confidence(label, readings) -> np.ndarray:
    """Part of the readings that agree with the label at each pixel; those that ignore it are not counted.

    Args:
        label: [H, W] label map.
        readings: label maps of the same shape.

    Returns:
        [H, W] float32 in 0..1; 0 where no reading says anything.
    """
    readings = np.stack([np.asarray(reading) for reading in readings])
    known = readings != IGNORE
    opinions = known.sum(axis=0).astype(np.float32)
    agreeing = ((readings == label) & known).sum(axis=0).astype(np.float32)
    return np.divide(agreeing, opinions, out=np.zeros_like(opinions), where=opinions > 0)


def audit_photo(photo: str, classes, plain, normalised, sure, smallest_share: float) -> list[Doubt]:
    """Confidence of every tagged class of a photo.

    Args:
        photo: its id.
        classes: class indices of its tags.
        plain, normalised: [H, W] labels of the walked and of the normalised maps.
        sure: [H, W] sure pixels of the CAMs, 255 elsewhere.
        smallest_share: as in `tfwsss.tag_consistency.vanished`.
    """
    lost = vanished(plain, classes, smallest_share)
    label = chosen_label(plain, normalised, classes, smallest_share)
    still_lost = vanished(label, classes, smallest_share)
    doubts = []
    for k in sorted(int(k) for k in classes):
        both, cams = agreement(plain, normalised, k + 1), agreement(label, sure, k + 1)
        if k in still_lost:
            reason = "has vanished from the label"
        elif k in lost:
            reason = "has vanished from the walk, is back in the normalised one"
        elif both <= cams:
            reason = f"walk and normalised walk agree on {both:.0%}"
        else:
            reason = f"label and sure pixels of the CAMs agree on {cams:.0%}"
        share = np.count_nonzero(label == k + 1) / label.size
        doubts.append(Doubt(photo, k, (both + cams) / 2, share, reason))
    return doubts
