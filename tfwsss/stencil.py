"""Affinities and the random walk on a processor: the pair set is a fixed stencil, so W needs no indices.

Cell (y, x) and its partner (y+dy, x+dx) share one weight, stored once at the earlier of the two: a product with W reads
each weight twice, both times in rows of neighbouring numbers, and everything stays in the processor's second cache. Compiled
just in time and without Python's global lock: several photos walk at the same time in threads.

All arrays have a frame of `radius - 1` zeros, so that no pair needs a test whether it leaves the grid.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np

from tfwsss.affinity import check_grid, pair_offsets, valid_pairs
from tfwsss_densecrf.compiled import compiled

# Sums in another order than written are allowed (they become vector instructions); infinities and NaN keep their meaning.
_compiled = partial(compiled, fastmath={"contract", "reassoc"})


@_compiled
def _distances(features, offsets, reach, affinity):
    """``exp(-mean |difference|)`` of features [h+r, w+2r, F] with a frame, r = reach, for each pair [P, h, w] of the inner cells."""
    scale = np.float32(1.0) / np.float32(features.shape[2])
    for y in range(affinity.shape[1]):
        for pair in range(affinity.shape[0]):
            dy, dx = offsets[pair]
            for x in range(affinity.shape[2]):
                one, other = features[y, reach + x], features[y + dy, reach + x + dx]
                total = np.float32(0.0)
                for channel in range(features.shape[2]):
                    total += abs(one[channel] - other[channel])
                affinity[pair, y, x] = math.exp(-total * scale)


@_compiled
def _accumulate(weights, offsets, values, row, frame, width, sums):
    """Add the pairs of one row: weights [P, h+2f, w+2f], values and sums [C, h+2f, w+2f]; `row` counts from the frame.

    Two offsets at a time: so the sums are read and written half as often.
    """
    inner = slice(frame, frame + width)
    for pair in range(0, weights.shape[0], 2):
        dy, dx = offsets[pair]
        ahead = weights[pair, row, inner]
        behind = weights[pair, row - dy, frame - dx : frame - dx + width]
        if pair + 1 == weights.shape[0]:
            for channel in range(values.shape[0]):
                total = sums[channel, row, inner]
                after = values[channel, row + dy, frame + dx : frame + dx + width]
                before = values[channel, row - dy, frame - dx : frame - dx + width]
                for x in range(width):
                    total[x] += ahead[x] * after[x] + behind[x] * before[x]
            return
        ey, ex = offsets[pair + 1]
        ahead_2 = weights[pair + 1, row, inner]
        behind_2 = weights[pair + 1, row - ey, frame - ex : frame - ex + width]
        for channel in range(values.shape[0]):
            total = sums[channel, row, inner]
            after = values[channel, row + dy, frame + dx : frame + dx + width]
            before = values[channel, row - dy, frame - dx : frame - dx + width]
            after_2 = values[channel, row + ey, frame + ex : frame + ex + width]
            before_2 = values[channel, row - ey, frame - ex : frame - ex + width]
            for x in range(width):
                total[x] += (ahead[x] * after[x] + behind[x] * before[x]) + (ahead_2[x] * after_2[x] + behind_2[x] * before_2[x])


@_compiled
def _row_sums(weights, offsets, frame, height, width):
    """Sum of each cell's pair weights, without the diagonal: [1, h+2f, w+2f]."""
    ones = np.zeros((1, height + 2 * frame, width + 2 * frame))
    ones[:, frame : frame + height, frame : frame + width] = 1.0
    sums = np.zeros_like(ones)
    for y in range(height):
        _accumulate(weights, offsets, ones, y + frame, frame, width, sums)
    return sums


@_compiled
def _normalize(weights, offsets, scale, frame, height, width):
    """``D^-1/2 W D^-1/2`` in place, with `scale` the framed diagonal of D^-1/2."""
    for pair in range(weights.shape[0]):
        dy, dx = offsets[pair]
        for y in range(frame, frame + height):
            for x in range(frame, frame + width):
                weights[pair, y, x] *= scale[y, x] * scale[y + dy, x + dx]


@_compiled
def _chebyshev(weights, offsets, diagonal, start, coefficients, frame, height, width):
    """``sum_k c_k T_k(S) start`` by the three-term recurrence; all arrays framed."""
    inner = slice(frame, frame + width)
    now, before, after = start.copy(), np.zeros_like(start), np.zeros_like(start)
    total = coefficients[0] * start
    for degree in range(1, coefficients.size):
        # T_1 = S T_0, and T_k+1 = 2 S T_k - T_k-1.
        factor = 1.0 if degree == 1 else 2.0
        coefficient = coefficients[degree]
        for row in range(frame, frame + height):
            for channel in range(start.shape[0]):
                product, value = after[channel, row, inner], now[channel, row, inner]
                for x in range(width):
                    product[x] = diagonal[row, frame + x] * value[x]
            _accumulate(weights, offsets, now, row, frame, width, after)
            for channel in range(start.shape[0]):
                product, older, result = after[channel, row, inner], before[channel, row, inner], total[channel, row, inner]
                for x in range(width):
                    product[x] = factor * product[x] - older[x]
                    result[x] += coefficient * product[x]
        before, now, after = now, after, before
    return total


def _framed_weights(affinity: np.ndarray, beta: float, radius: int, height: int, width: int) -> np.ndarray:
    """``affinity**beta`` with a frame, 0 for pairs that leave the grid. A smaller `affinity` is the reference's pair set."""
    frame = radius - 1
    weights = np.zeros((len(affinity), height + 2 * frame, width + 2 * frame))
    rows, columns = affinity.shape[1:]
    left = frame + (width - columns) // 2  # the reference's source cells keep away from both sides and from below
    np.power(affinity, beta, out=weights[:, frame : frame + rows, left : left + columns], dtype=np.float64)
    for pair, (dy, dx) in enumerate(pair_offsets(radius)):
        weights[pair, frame + height - dy :] = 0.0
        if dx > 0:
            weights[pair, :, frame + width - dx :] = 0.0
        else:
            weights[pair, :, : frame - dx] = 0.0
    return weights


def pair_affinity(features, radius: int, border: Literal["faithful", "full"]) -> np.ndarray:
    """`tfwsss.affinity.pair_affinity` of one photo: features [h, w, F] -> [P, ...] float32."""
    features, reach = np.asarray(features, np.float32), radius - 1
    height, width = features.shape[:2]
    offsets = np.ascontiguousarray(pair_offsets(radius), np.int64)
    if border == "full":  # on a grid with a frame, the inner cells are those of the grid
        features = np.pad(features, ((0, reach), (reach, reach), (0, 0)))
    else:
        check_grid(height, width, radius)
        features = np.array(features, order="C")  # a copy: to numba a read-only array is of another type
    affinity = np.empty((len(offsets), features.shape[0] - reach, features.shape[1] - 2 * reach), np.float32)
    _distances(features, offsets, reach, affinity)
    return affinity * valid_pairs(height, width, radius) if border == "full" else affinity


def walk(affinity: np.ndarray, scores: np.ndarray, *, radius: int, beta: float, coefficients: np.ndarray) -> np.ndarray:
    """``sum_k c_k T_k(D^-1 W) scores`` of one photo; see `tfwsss.randomwalk` for W, D and the series of ``x**steps``.

    Args:
        affinity: [P, h, w] in 0..1, or [P, h-(r-1), w-2(r-1)], the reference's pair set.
        scores: [h, w, C].
        radius: pairs are closer than this many cells.
        beta: exponent of the affinities.
        coefficients: float64 [m+1] of the Chebyshev series.

    Returns:
        float32 [h, w, C], computed in float64.
    """
    height, width, _ = scores.shape
    frame = radius - 1
    inside = slice(frame, frame + height), slice(frame, frame + width)
    offsets = np.ascontiguousarray(pair_offsets(radius), np.int64)
    weights = _framed_weights(np.asarray(affinity, np.float32), beta, radius, height, width)
    root = np.zeros(weights.shape[1:])
    root[inside] = np.sqrt(1.0 + _row_sums(weights, offsets, frame, height, width)[0][inside])  # 1: the diagonal
    scale = np.zeros_like(root)
    scale[inside] = 1.0 / root[inside]
    _normalize(weights, offsets, scale, frame, height, width)
    start = np.zeros((scores.shape[2], *root.shape))
    start[(slice(None), *inside)] = np.moveaxis(scores, 2, 0)
    total = _chebyshev(weights, offsets, scale * scale, start * root, np.asarray(coefficients, np.float64), frame, height, width)
    return np.moveaxis((total * scale)[(slice(None), *inside)], 0, 2).astype(np.float32)
