"""Bilinear enlargement of maps as `tf.image.resize` does it: half-pixel centres, ends clamped, no antialiasing.

For threads and processes without TensorFlow: compiled by numba at the first call, without Python's global lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np


def _add(maps, rows, row_parts, columns, column_parts, total):
    """Add maps [K, h, w] to total [K, H, W], whose row y lies `row_parts[y]` of the way from map row `rows[y]` to the next."""
    last_row, last_column = maps.shape[1] - 1, maps.shape[2] - 1
    nexts = np.minimum(columns + 1, last_column)
    line = np.empty(maps.shape[2], np.float32)
    for channel in range(maps.shape[0]):
        for y in range(total.shape[1]):
            low, high = maps[channel, rows[y]], maps[channel, min(rows[y] + 1, last_row)]
            for x in range(maps.shape[2]):
                line[x] = low[x] + (high[x] - low[x]) * row_parts[y]
            sums = total[channel, y]
            for x in range(total.shape[2]):
                left = line[columns[x]]
                sums[x] += left + (line[nexts[x]] - left) * column_parts[x]


@cache
def _compiled_add():
    from tfwsss_densecrf.compiled import compiled  # numba takes half a second to import

    return compiled(_add)


def _positions(count: int, cells: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `size` pixels, `cells` of the `count` cells to the pixel: the cell before each, and how far behind it it lies."""
    position = np.maximum((np.arange(size) + 0.5) * cells - 0.5, 0.0)
    before = np.minimum(position.astype(np.intp), count - 1)
    return before, (position - before).astype(np.float32)


def _add_to(total: np.ndarray, maps, row_cells: float, column_cells: float) -> None:
    maps = np.array(maps, np.float32, order="C")  # a copy: to numba a read-only array is of another type
    rows, row_parts = _positions(maps.shape[1], row_cells, total.shape[1])
    columns, column_parts = _positions(maps.shape[2], column_cells, total.shape[2])
    _compiled_add()(maps, rows, row_parts, columns, column_parts, total)


def enlarged_sum(maps: Sequence, height: int, width: int) -> np.ndarray:
    """Sum of several sets of maps [K, h, w], each of any size, that cover a photo -> float32 [K, height, width]."""
    total = np.zeros((len(maps[0]), height, width), np.float32)
    for one in maps:
        _add_to(total, one, one.shape[1] / height, one.shape[2] / width)
    return total


def enlarge_cells(maps, stride: int, height: int, width: int) -> np.ndarray:
    """Maps [K, h, w] of cells of `stride` pixels, the last of which may reach beyond the photo -> float32 [K, height, width]."""
    total = np.zeros((len(maps), height, width), np.float32)
    _add_to(total, maps, 1 / stride, 1 / stride)
    return total
