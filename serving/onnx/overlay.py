"""Masks as pictures."""

import numpy as np


def overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Lay the classes' colours over a photo; background stays as it is.

    Args:
        image: uint8 [H, W, 3] RGB.
        mask: uint8 [H, W] labels, each below the palette's length.
        palette: uint8 [L, 3], `Segmenter.palette`.
        opacity: 0 shows the photo only, 1 the colours only.

    Returns:
        uint8 [H, W, 3].
    """
    weight = opacity * (mask != 0)[:, :, None].astype(np.float32)
    return np.rint(image * (1 - weight) + palette[mask] * weight).astype(np.uint8)
