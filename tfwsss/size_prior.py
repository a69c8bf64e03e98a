"""How large objects usually are, told by the user: one exponent for each class, so that one threshold serves all of them.

A threshold of class activation maps that suits large objects makes small ones ten times too large, and the other way round.
Whoever tags photos knows the sizes roughly: a blowhole has a fifth of a percent of the photo, a worn surface a quarter (a
size constraint in the sense of Pathak, Kraehenbuehl & Darrell, ICCV 2015, there a bit for large or small).

numpy only: worker processes import this without TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tfwsss.background import CamHistogram

THRESHOLD = 0.3  # of the maps that were raised to their exponents
MARGIN = 1.5  # maps above the threshold cover so many times the usual share: labels that are a little too large lose less than too small ones
RANGE = (0.1, 20.0)  # of the exponents


def exponent(histogram: CamHistogram, share: float) -> float:
    """The exponent that puts `THRESHOLD` where the maps of a class cover `MARGIN` times its usual share.

    Args:
        histogram: of the class's maps in 0..1 over all photos tagged with it.
        share: part of a photo's pixels, 0..1, that the class usually covers.

    Returns:
        Number within `RANGE`.

    Raises:
        DataError: the histogram is empty.
    """
    value = min(max(histogram.value_above_which(min(MARGIN * share, 1.0)), 1e-6), 1 - 1e-6)
    return min(max(math.log(THRESHOLD) / math.log(value), RANGE[0]), RANGE[1])


def sized(classes, cam, exponents: Mapping[int, float]) -> np.ndarray:
    """CAMs [K, H, W] in 0..1 raised to the exponents of their classes; the maps of other classes stay as they are."""
    powers = np.array([exponents.get(int(k), 1.0) for k in classes], np.float32)
    if (powers == 1).all():
        return cam
    return np.power(cam, powers[:, np.newaxis, np.newaxis])
