"""How strong the background is: its score, its exponent, and what it makes confident (Ahn & Kwak, CVPR 2018, section 3.2).

A pixel's background score is ``(1 - max_c cam_c)**alpha``. A small alpha strengthens the background, so what is still
foreground is confident; a large alpha weakens it, so what is still background is confident. numpy only: the CRF's
worker processes import this without TensorFlow.
"""

import math

import numpy as np

from tfwsss.config import FixedAlphas
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

# The three exponents have to straddle the best background threshold t* of the CAMs at hand: "low" must be stricter
# than it (only sure foreground survives), "high" more generous (only sure background survives). The random walk
# spreads foreground, so its background starts a little weaker than t*. The published exponents 4 / 16 / 32 are the
# thresholds 0.28 / 0.12 / 0.08, i.e. such a spread around the CAMs of that work.
LOW_FACTOR = 1.3
WALK_FACTOR = 0.8
HIGH_FACTOR = 0.55
# A bimodal split outside this range says that the CAMs carry no contrast (or no background); beyond it the exponents
# would make everything foreground or everything background.
THRESHOLD_RANGE = (0.05, 0.6)


def background_score(cam, alpha: float) -> np.ndarray:
    """Background score of every pixel.

    Args:
        cam: [K, H, W] class activation maps in 0..1; K = 0 means that nothing but background is in the photo.
        alpha: exponent > 0.

    Returns:
        [H, W] float32 in 0..1: ``(1 - max_c cam_c)**alpha``, 1 everywhere for K = 0.
    """
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive exponent, found {alpha!r}")
    cam = np.asarray(cam, np.float32)
    strongest = cam.max(axis=0, initial=0.0)
    return np.power(1.0 - np.minimum(strongest, 1.0), np.float32(alpha))


def alpha_of_threshold(threshold: float) -> float:
    """The exponent with which a CAM value wins against the background exactly above `threshold` (in 0..1, exclusive).

    Solves ``(1 - t)**alpha = t``.
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold: expected a number between 0 and 1 (exclusive), found {threshold!r}")
    return math.log(threshold) / math.log1p(-threshold)


def threshold_of_alpha(alpha: float) -> float:
    """The CAM value above which a class wins against the background of exponent `alpha`; inverse of `alpha_of_threshold`."""
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha: expected a positive exponent, found {alpha!r}")
    low, high = 0.0, 1.0  # alpha*log(1-t) - log(t) falls monotonically from +inf to -inf
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if alpha * math.log1p(-middle) > math.log(middle):
            low = middle
        else:
            high = middle


class CamHistogram:
    """Histogram of the strongest CAM value per pixel, pooled over a data set.

    Attributes:
        counts: int64 [bins], bin i covers [i / bins, (i + 1) / bins), the last one includes 1.
    """

    def __init__(self, bins: int = 256):
        if bins < 2:
            raise ValueError(f"bins: expected at least 2, found {bins}")
        self.counts = np.zeros(bins, np.int64)

    def update(self, cam) -> "CamHistogram":
        """Add one photo's maps [K, H, W] in 0..1. A photo without classes (K = 0) says nothing and is not counted."""
        cam = np.asarray(cam, np.float32)
        if cam.ndim != 3:
            raise ValueError(f"cam: expected shape [K, H, W], found {list(cam.shape)}")
        if cam.shape[0] == 0:
            return self
        strongest = cam.max(axis=0).ravel()
        if not np.isfinite(strongest).all():
            raise DataError("cam: expected values in 0..1, found NaN or infinity")
        bins = len(self.counts)
        index = np.clip((strongest * bins).astype(np.int64), 0, bins - 1)
        self.counts += np.bincount(index, minlength=bins)
        return self

    def merge(self, other: "CamHistogram") -> "CamHistogram":
        """Add another histogram of the same number of bins (from another worker)."""
        if len(other.counts) != len(self.counts):
            raise ValueError(f"cannot merge {len(other.counts)} bins into {len(self.counts)}")
        self.counts += other.counts
        return self

    def value_above_which(self, share: float) -> float:
        """The value in 0..1 that `share` (0..1) of the pixels are above, to the width of a bin, linear within it.

        Raises:
            DataError: nothing was counted.
        """
        total = self.counts.sum()
        if total == 0:
            raise DataError("the CAM histogram is empty: no photo has a class activation map")
        above = np.concatenate([np.cumsum(self.counts[::-1])[::-1], [0]]) / total  # of each bin edge
        return float(np.interp(share, above[::-1], np.linspace(1.0, 0.0, len(above))))

    def otsu_threshold(self) -> float:
        """The value in 0..1 that splits the histogram best in two: largest variance between the parts (Otsu, 1979).

        Raises:
            DataError: nothing was counted.
        """
        total = self.counts.sum()
        if total == 0:
            raise DataError("the CAM histogram is empty: no photo has a class activation map")
        bins = len(self.counts)
        centres = (np.arange(bins) + 0.5) / bins
        weight = np.cumsum(self.counts)[:-1] / total  # of the part below each inner bin edge
        moment = np.cumsum(self.counts * centres)[:-1] / total
        mean = (self.counts * centres).sum() / total
        spread = weight * (1.0 - weight)
        between = np.divide((mean * weight - moment) ** 2, spread, out=np.zeros_like(spread), where=spread > 0)
        # Empty bins between two parts make a plateau: its middle is the fairest threshold.
        best = np.flatnonzero(between >= between.max() * (1.0 - 1e-12))
        return float((best[0] + best[-1]) / 2.0 + 1.0) / bins


def choose_alphas(histogram: CamHistogram) -> FixedAlphas:
    """Background exponents for these CAMs, found without any mask.

    The background threshold t* is estimated by Otsu's method on the pooled strongest CAM values, clipped to 0.05..0.6.

    Raises:
        DataError: the histogram is empty.
    """
    return alphas_around(min(max(histogram.otsu_threshold(), THRESHOLD_RANGE[0]), THRESHOLD_RANGE[1]))


def alphas_around(threshold: float) -> FixedAlphas:
    """The exponents of 1.3 t*, 0.8 t* and 0.55 t* for a background threshold t* (0.35 gives about 1.3 / 3.9 / 7.7)."""
    return FixedAlphas(
        low=alpha_of_threshold(LOW_FACTOR * threshold),
        walk=alpha_of_threshold(WALK_FACTOR * threshold),
        high=alpha_of_threshold(HIGH_FACTOR * threshold),
    )


def predict_label(classes, cam, *, threshold: float | None = None, alpha: float | None = None) -> np.ndarray:
    """Label map straight from the class activation maps.

    Args:
        classes: [K] class indices.
        cam: [K, H, W] in 0..1.
        threshold: background where no map is above it, or
        alpha: background where no map is above the score ``(1 - max_c cam_c)**alpha``. Exactly one of the two.

    Returns:
        [H, W] uint8: 0 background, k+1 class k; all background for K = 0.
    """
    if (threshold is None) == (alpha is None):
        raise ValueError("expected exactly one of threshold and alpha")
    cam = np.asarray(cam, np.float32)
    if cam.ndim != 3 or cam.shape[0] != len(classes):
        raise ValueError(f"cam: expected [{len(classes)}, H, W], found {list(cam.shape)}")
    if alpha is None:
        background = np.full(cam.shape[1:], threshold, np.float32)
    else:
        background = background_score(cam, alpha)
    labels = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    return labels[np.concatenate([background[None], cam]).argmax(axis=0)]


def combine_crf(low_scores, high_scores, classes) -> np.ndarray:
    """Training labels for AffinityNet from the CRF results of a strong and a weak background.

    Args:
        low_scores: [K+1, H, W] CRF scores with the strong background (alpha low), background first.
        high_scores: [K+1, H, W] with the weak background (alpha high).
        classes: [K] class indices without background, of channels 1..K.

    Returns:
        [H, W] uint8: 0 where even the weak background wins, k+1 where class k beats the strong one, 255 between.

    Raises:
        ValueError: the shapes do not belong together.
    """
    low_scores, high_scores, classes = np.asarray(low_scores), np.asarray(high_scores), np.asarray(classes)
    if low_scores.ndim != 3 or low_scores.shape != high_scores.shape or low_scores.shape[0] != len(classes) + 1:
        raise ValueError(
            f"expected two score arrays [K+1, H, W] with K = {len(classes)} classes, "
            f"found {list(low_scores.shape)} and {list(high_scores.shape)}"
        )
    label_of_channel = np.concatenate([[IGNORE], classes + 1]).astype(np.uint8)
    label = label_of_channel[low_scores.argmax(axis=0)]
    label[high_scores.argmax(axis=0) == 0] = 0
    return label
