"""Photos that are nearly the same: one scene twice, another exposure, a copy of another size. Found by small grey thumbnails.

Two photos are alike when their thumbnails, without mean and contrast, correlate with 0.98 or more. Recompressed copies of two
thirds of the size correlate with 0.995 or more; photos of different things with less, unless both show little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16  # pixels of a thumbnail
ALIKE = 0.98
FLAT = 3.0  # grey levels of standard deviation, below which a thumbnail shows nothing to compare
ROWS = 256  # photos compared with all others at once


def thumbnail(pixels: np.ndarray) -> bytes:
    """Of a photo [H, W, 3] uint8: SIDE x SIDE grey values."""
    return Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def alike(some: Sequence[bytes], others: Sequence[bytes]) -> list[tuple[int, int]]:
    """Photos that look like one of others.

    Args:
        some, others: thumbnails; b"" for a photo that has none.

    Returns:
        (index in `some`, index of the most similar one in `others`), ascending.
    """
    first, where = _standardised(some)
    second, places = _standardised(others)
    found: list[tuple[int, int]] = []
    if not len(second):
        return found
    for start in range(0, len(first), ROWS):
        similarity = first[start : start + ROWS] @ second.T
        best = similarity.argmax(axis=1)
        rows = np.flatnonzero(similarity[np.arange(len(best)), best] >= ALIKE)
        found += [(int(where[start + row]), int(places[best[row]])) for row in rows]
    return found


def _standardised(thumbnails: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [N, SIDE * SIDE] of mean 0 and length 1, indices of the photos)"""
    places = np.array([index for index, one in enumerate(thumbnails) if one], np.int64)
    if not len(places):
        return np.zeros((0, SIDE * SIDE), np.float32), places
    values = np.frombuffer(b"".join(thumbnails[index] for index in places), np.uint8).reshape(len(places), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1)
    shown = length >= FLAT * SIDE
    return values[shown] / length[shown, None], places[shown]
