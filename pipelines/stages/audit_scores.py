"""What the label audit is worth, measured against masks; part of stage `label_scores`."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from tfwsss.label_audit import agreement
from tfwsss.storage.artifacts import IGNORE, load_label
from tfwsss.tag_consistency import chosen_label

from ..engine.context import Context
from .label_audit import read_photos
from .pseudo_labels import NORMALISED, PLAIN

DOUBTFUL_PART = 0.1  # of the photos, that one would look at or leave out first


def surest(context: Context, masked: list) -> list:
    """The (sample, mask) pairs without the most doubtful tenth."""
    order = {photo.photo: rank for rank, photo in enumerate(read_photos(context.work))}
    ranked = sorted(masked, key=lambda pair: order.get(pair[0].id, len(order)))  # photos without a tag are in no doubt
    dropped = {sample.id for sample, _ in ranked[: round(DOUBTFUL_PART * len(ranked))]}
    return [pair for pair in masked if pair[0].id not in dropped]


def audit_scores(context: Context, masked: list) -> dict[str, float]:
    """Rank correlation of a photo's confidence with the true IoU of its label, mean over its tagged classes.

    Args:
        context: of the stage `label_scores`.
        masked: (sample, mask) of the photos that have a mask.

    Returns:
        {"audit_rank_correlation": Spearman's, -1..1}; nothing with fewer than three photos or where all are alike.
    """
    confidence = {photo.photo: photo.confidence for photo in read_photos(context.work)}
    share, true, found = context.config.pseudo_labels.smallest_share, [], []
    for sample, mask in masked:
        if sample.id not in confidence or (mask == IGNORE).all():
            continue
        plain, normalised = (load_label(context.work / folder, sample.id) for folder in (PLAIN, NORMALISED))
        label = chosen_label(plain, normalised, sample.tags, share)
        true.append(np.mean([agreement(label, mask, k + 1) for k in sample.tags]))
        found.append(confidence[sample.id])
    if len(true) < 3 or np.ptp(true) == 0 or np.ptp(found) == 0:
        return {}
    return {"audit_rank_correlation": float(spearmanr(found, true).statistic)}
