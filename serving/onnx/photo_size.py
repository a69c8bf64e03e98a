"""Large photos, made smaller as the network has learnt them, and what it finds in them, enlarged again.

`tfwsss/data/image.py` reduces photos for training by the same rule: change both.
"""

from __future__ import annotations

import numpy as np


def reduced_size(height: int, width: int, long_side: int | None) -> tuple[int, int]:
    """(height, width) of a photo once its long side is at most `long_side` pixels (None: any); a side has 1 pixel at least."""
    longest = max(height, width)
    if long_side is None or longest <= long_side:
        return height, width
    return max(round(height * long_side / longest), 1), max(round(width * long_side / longest), 1)


def reduced(photo: np.ndarray, long_side: int | None) -> np.ndarray:
    """A photo uint8 [H, W, 3] whose long side is at most `long_side` pixels, made smaller bilinearly with antialiasing."""
    height, width = reduced_size(photo.shape[0], photo.shape[1], long_side)
    if (height, width) == photo.shape[:2]:
        return photo
    from PIL import Image

    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def enlarged(found: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask uint8 [h, w] (each pixel is the nearest one's) or scores float32 [h, w, L] (bilinear) as large as the photo was."""
    if found.shape[:2] == (height, width):
        return found
    if found.ndim == 2:
        # Whole numbers: a pixel's centre may lie on the border of two, where floating-point numbers decide by chance.
        rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(found.shape, (height, width)))
        return found[rows][:, columns]
    from PIL import Image

    channels = (Image.fromarray(np.ascontiguousarray(found[..., label])).resize((width, height), Image.Resampling.BILINEAR) for label in range(found.shape[2]))
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)
