"""Bilinear enlargement of maps in numpy, as `tf.image.resize` does it: half-pixel centres, ends clamped, no antialiasing.

For threads and processes without TensorFlow.
"""

from __future__ import annotations

import numpy as np


def _along(maps: np.ndarray, axis: int, cells: float, size: int) -> np.ndarray:
    """Enlarge one axis to `size` pixels, `cells` of its cells to the pixel."""
    last = maps.shape[axis] - 1
    position = np.maximum((np.arange(size) + 0.5) * cells - 0.5, 0.0)
    lower = np.minimum(position.astype(np.intp), last)
    fraction = (position - lower).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(maps.ndim)])
    low, high = maps.take(lower, axis), maps.take(np.minimum(lower + 1, last), axis)
    high -= low
    high *= fraction
    high += low
    return high


def enlarge(maps, height: int, width: int) -> np.ndarray:
    """Maps [K, h, w] that cover a photo -> float32 [K, height, width]; as they are where they have that size."""
    maps = np.asarray(maps, np.float32)
    if maps.shape[1:] == (height, width):
        return maps
    return _along(_along(maps, 1, maps.shape[1] / height, height), 2, maps.shape[2] / width, width)


def enlarge_cells(maps, stride: int, height: int, width: int) -> np.ndarray:
    """Maps [K, h, w] of cells of `stride` pixels, the last of which may reach beyond the photo -> float32 [K, height, width]."""
    return _along(_along(np.asarray(maps, np.float32), 1, 1 / stride, height), 2, 1 / stride, width)
