"""What the label audit is worth, measured against masks; part of stage `label_scores`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from tfwsss.data.dataset import Sample
from tfwsss.label_audit import agreement
from tfwsss.storage.artifacts import IGNORE, load_label
from tfwsss.tag_consistency import chosen_label

from ..engine.context import Context
from .label_audit import read_photos
from .label_source import NORMALISED, PLAIN

DOUBTFUL_PART = 0.1  # of the photos, that one would look at or leave out first


def doubtful(context: Context, photos: list[str]) -> set[str]:
    """The most doubtful tenth of the photos of these ids."""
    order = {photo.photo: rank for rank, photo in enumerate(read_photos(context.work))}
    ranked = sorted(photos, key=lambda photo: order.get(photo, len(order)))  # photos without a tag are in no doubt
    return set(ranked[: round(DOUBTFUL_PART * len(ranked))])


def true_agreement(work: Path, sample: Sample, mask: np.ndarray, smallest_share: float) -> float | None:
    """IoU of a photo's label with its mask, mean over its tagged classes; None where there is nothing to compare."""
    if not sample.tags or (mask == IGNORE).all():
        return None
    plain, normalised = (load_label(work / folder, sample.id) for folder in (PLAIN, NORMALISED))
    label = chosen_label(plain, normalised, sample.tags, smallest_share)
    known = mask != IGNORE
    return float(np.mean([agreement(label[known], mask[known], k + 1) for k in sample.tags]))


def audit_scores(context: Context, true: dict[str, float]) -> dict[str, float]:
    """Rank correlation of a photo's confidence with the true IoU of its label.

    Args:
        context: of the stage `label_scores`.
        true: {photo: what `true_agreement` says}.

    Returns:
        {"audit_rank_correlation": Spearman's, -1..1}; nothing with fewer than three photos or where all are alike.
    """
    confidence = {photo.photo: photo.confidence for photo in read_photos(context.work) if photo.photo in true}
    found, expected = list(confidence.values()), [true[photo] for photo in confidence]
    if len(found) < 3 or np.ptp(expected) == 0 or np.ptp(found) == 0:
        return {}
    return {"audit_rank_correlation": float(spearmanr(found, expected).statistic)}
