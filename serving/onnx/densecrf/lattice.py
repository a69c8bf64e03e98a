"""The permutohedral lattice (Adams, Baek & Davis, Eurographics 2010): Gaussian filtering of scattered points in linear time.

Features are lifted onto the hyperplane of d + 1 coordinates that sum to 0, where the lattice divides space into equal
simplices. Every pixel gives its value to the d + 1 corners of its simplex by barycentric weights (splat), corners mix with
their neighbours along d + 1 directions (blur), and pixels read back with the same weights (slice).

Rounding, ties and the order of sums are those of the reference implementation in pydensecrf, so that kernels agree to
float32 rounding. That includes its work in groups of four pixels: a last group that is not full is filled with the feature
zero, whose corners exist then too and pass on values in the blur.
"""

import math
from typing import NamedTuple

import numpy as np

from .compiled import compiled

BLOCK = 256  # pixels whose coordinates are computed together, in cache and in the processor's vectors
FIRST_CAPACITY = 1 << 14  # of the hash table, which doubles when half full
GROUP = 4  # pixels that the reference takes together
NOTHING = np.int64(-1)
SPREAD = np.int64(-7046029254386353131)  # 2**64 divided by the golden ratio, odd: Fibonacci hashing
HALF, ONE = np.float32(0.5), np.float32(1)


class Lattice(NamedTuple):
    """The lattice of one photo with d features a pixel, M corners in use; corner 0 stands for those that are not.

    Attributes:
        corners: [N, d+1] uint32, the simplex of every pixel, 1..M.
        weights: [N, d+1] float32 barycentric weights.
        neighbours: [d+1, M, 2] uint32, the two neighbours of corner m + 1 in each direction, 0..M.
    """

    corners: np.ndarray
    weights: np.ndarray
    neighbours: np.ndarray


@compiled
def _slot(key, keys):
    # Open addressing: the slot that holds `key`, or the free one where it belongs.
    mask = keys.size - 1
    slot = ((key * SPREAD) >> 24) & mask
    while keys[slot] != key and keys[slot] != NOTHING:
        slot = (slot + 1) & mask
    return slot


@compiled
def _neighbours(corner_keys, count, keys, numbers, step):
    directions = step.size
    neighbours = np.zeros((directions, count, 2), np.uint32)
    for axis in range(directions):
        for corner in range(count):
            # All coordinates less 1, that of the axis more d: in the key the class goes down by one, or round to d.
            key = corner_keys[corner]
            if key % directions > 0:
                key += step[axis] - 1
            else:
                key += step[axis] - step.sum() + directions - 1
            slot = _slot(key, keys)
            if keys[slot] != NOTHING:
                other = numbers[slot]
                neighbours[axis, corner, 0] = other + 1
                neighbours[axis, other, 1] = corner + 1
    return neighbours


@compiled
def _build(colours, width, sxy, srgb, scale, origin, step):
    """Corners, weights and neighbours.

    A corner's first d coordinates (the last one follows from them) are (d+1) * quotient + class, one class 0..d for all.
    Its key is class + sum((quotient - origin) * step). From one corner of a simplex to the next the class grows by one and
    one coordinate, the next in rank from the last, drops by d + 1, which is its quotient by one.
    """
    pixels, channels = colours.shape
    d = channels + 2
    plus = np.float32(d + 1)
    inverse = ONE / plus
    corners = np.empty((pixels, d + 1), np.uint32)
    weights = np.empty((pixels, d + 1), np.float32)
    capacity = FIRST_CAPACITY
    keys, numbers = np.full(capacity, NOTHING), np.empty(capacity, np.uint32)
    corner_keys = np.empty(capacity // 2 + d + 1, np.int64)
    count = 0

    feature = np.zeros((d, BLOCK), np.float32)
    lifted, rest = np.empty((d + 1, BLOCK), np.float32), np.empty((d + 1, BLOCK), np.float32)
    quotient, rank = np.empty((d + 1, BLOCK), np.int32), np.empty((d + 1, BLOCK), np.int32)
    partial, excess = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    axis_of_rank, by_rank = np.empty(d + 1, np.int64), np.empty(d + 1, np.float32)

    padded = (pixels + GROUP - 1) // GROUP * GROUP
    for start in range(0, padded, BLOCK):
        size = min(BLOCK, padded - start)
        feature[:] = 0
        for p in range(min(BLOCK, pixels - start)):
            feature[0, p] = np.float32((start + p) % width) / sxy
            feature[1, p] = np.float32((start + p) // width) / sxy
            for channel in range(channels):
                feature[2 + channel, p] = np.float32(colours[start + p, channel]) / srgb

        partial[:] = 0
        for axis in range(d, 0, -1):
            factor, times = scale[axis - 1], np.float32(axis)
            for p in range(size):
                value = feature[axis - 1, p] * factor
                lifted[axis, p] = partial[p] - times * value
                partial[p] += value
        excess[:] = 0
        for p in range(size):
            lifted[0, p] = partial[p]
        # The nearest corner of class 0 in each coordinate, and the order of what is left.
        for axis in range(d + 1):
            for p in range(size):
                rounded = np.rint(lifted[axis, p] * inverse)
                rest[axis, p] = lifted[axis, p] - rounded * plus
                quotient[axis, p] = np.int32(rounded)
                excess[p] += quotient[axis, p]
                rank[axis, p] = 0
        for one in range(d):
            for two in range(one + 1, d + 1):
                for p in range(size):
                    less = rest[one, p] < rest[two, p]
                    rank[one, p] += np.int32(less)
                    rank[two, p] += np.int32(not less)
        # Coordinates must sum to 0: those that rounding moved furthest go back.
        for axis in range(d + 1):
            for p in range(size):
                place = rank[axis, p] + excess[p]
                turn = np.int32(place < 0) - np.int32(place > d)
                rank[axis, p] = place + turn * np.int32(d + 1)
                quotient[axis, p] += turn
                rest[axis, p] = (lifted[axis, p] - np.float32(quotient[axis, p]) * plus) * inverse

        for p in range(size):
            key = np.int64(0)
            for axis in range(d + 1):
                axis_of_rank[rank[axis, p]] = axis
                by_rank[rank[axis, p]] = rest[axis, p]
                if axis < d:
                    key += (quotient[axis, p] - origin[axis]) * step[axis]
            if 2 * (count + d + 1) > capacity:
                capacity *= 2
                keys, numbers = np.full(capacity, NOTHING), np.empty(capacity, np.uint32)
                for corner in range(count):
                    slot = _slot(corner_keys[corner], keys)
                    keys[slot], numbers[slot] = corner_keys[corner], corner
                longer = np.empty(capacity // 2 + d + 1, np.int64)
                longer[:count] = corner_keys[:count]
                corner_keys = longer
            pixel = start + p
            for remainder in range(d + 1):
                if remainder > 0:
                    key += 1 - step[axis_of_rank[d + 1 - remainder]]
                slot = _slot(key, keys)
                if keys[slot] == NOTHING:
                    keys[slot], numbers[slot], corner_keys[count] = key, count, key
                    count += 1
                if pixel < pixels:
                    corners[pixel, remainder] = numbers[slot] + 1
                    if remainder > 0:
                        weights[pixel, remainder] = by_rank[d - remainder] - by_rank[d - remainder + 1]
                    else:
                        weights[pixel, 0] = by_rank[d] + (ONE - by_rank[0])
    return corners, weights, _neighbours(corner_keys, count, keys, numbers, step)


@compiled
def _normalise(corners, weights, neighbours, alpha):
    # The filter of ones, then both sides of the symmetric normalisation at once: weights are used in splat and slice.
    pixels, directions = corners.shape
    value, blurred = np.zeros(neighbours.shape[1] + 1, np.float32), np.zeros(neighbours.shape[1] + 1, np.float32)
    for pixel in range(pixels):
        for j in range(directions):
            value[corners[pixel, j]] += weights[pixel, j]
    for axis in range(directions):
        for corner in range(neighbours.shape[1]):
            around = value[neighbours[axis, corner, 0]] + value[neighbours[axis, corner, 1]]
            blurred[corner + 1] = value[corner + 1] + HALF * around
        value, blurred = blurred, value
    for pixel in range(pixels):
        total = np.float32(0)
        for j in range(directions):
            total += weights[pixel, j] * value[corners[pixel, j]] * alpha
        root = ONE / np.sqrt(total + np.float32(1e-20))
        for j in range(directions):
            weights[pixel, j] *= root


def filter_gain(d: int) -> np.float32:
    """What slicing multiplies with (alpha in the reference implementation): 1 / (1 + 2**-d)."""
    return np.float32(1 / (1 + 2.0**-d))


def _keys(largest: np.ndarray, scale: np.ndarray, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    # Smallest quotient and the step of the key for each coordinate, from features between 0 and `largest`.
    d, reach = len(largest), largest * scale.astype(np.float64)
    lowest = np.array([-axis * reach[axis - 1] if axis else 0.0 for axis in range(d)])
    highest = np.array([reach[axis:].sum() for axis in range(d)])
    margin = 3  # rounding, the sum brought to 0, the corners of a simplex and their neighbours
    origin = [math.floor(value / (d + 1)) - margin for value in lowest]
    extent = [math.ceil(value / (d + 1)) + margin - first + 1 for value, first in zip(highest, origin)]  # noqa: B905 (Python 3.9)
    step = [d + 1]
    for size in extent:
        step.append(step[-1] * size)
    if step[-1] >= 2**62 or max(extent) >= 2**22:
        raise ValueError(f"{kernel} is too narrow for this photo: its lattice has more places than numbers of 64 bits")
    return np.array(origin, np.int64), np.array([*step[:-1], 0], np.int64)


def normalised_lattice(height: int, width: int, sxy: float, colours=None, srgb: float = 1.0) -> Lattice:
    """Lattice of a Gaussian kernel over pixel positions, or positions and colours, symmetrically normalised.

    Args:
        height, width: of the photo.
        sxy: standard deviation in pixels.
        colours: [H, W, 3] uint8, or None: positions alone (d = 2 instead of 5).
        srgb: standard deviation in grey levels.

    Returns:
        Weights are divided by the square root of the filter of ones: splat, blur, slice and `filter_gain` apply
        N^-1/2 K N^-1/2 with the kernel K and its row sums N.

    Raises:
        ValueError: the widths are not positive, or so small that lattice points cannot be numbered.
    """
    if not (sxy > 0 and srgb > 0):
        raise ValueError(f"expected kernels wider than 0, found {sxy:g} pixels and {srgb:g} grey levels")
    flat = np.empty((height * width, 0), np.uint8)
    if colours is not None:
        flat = np.array(colours, order="C").reshape(height * width, 3)  # a copy: to numba a read-only array is of another type
    d = 2 + flat.shape[1]
    deviation = np.float32(math.sqrt(2 / 3) * (d + 1))  # of the lattice's own blur, in its coordinates
    scale = np.array([float(deviation) / math.sqrt((i + 1) * (i + 2)) for i in range(d)], np.float32)
    largest = np.array([(width - 1) / sxy, (height - 1) / sxy] + [255 / srgb] * (d - 2))
    kernel = f"a kernel of {sxy:g} pixels" + ("" if colours is None else f" and {srgb:g} grey levels")
    origin, step = _keys(largest, scale, kernel)
    corners, weights, neighbours = _build(flat, width, np.float32(sxy), np.float32(srgb), scale, origin, step)
    _normalise(corners, weights, neighbours, filter_gain(d))
    return Lattice(corners, weights, neighbours)
