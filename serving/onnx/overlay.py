"""Masks as pictures."""

import numpy as np

_STRIP = 1 << 17  # pixels that are mixed at a time


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
    result = np.empty_like(image)
    rows = max(1, _STRIP // image.shape[1])
    for top in range(0, len(image), rows):  # the floats of a whole photo take 13 times its memory
        part = slice(top, top + rows)
        weight = np.float32(opacity) * (mask[part] != 0)[:, :, None].astype(np.float32)
        result[part] = np.rint(image[part] * (1 - weight) + palette[mask[part]] * weight)
    return result
