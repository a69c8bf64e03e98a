"""Semantic affinity of pixel pairs: pair lists, training labels, the affinity itself, its loss (Ahn & Kwak, CVPR 2018, section 3.2).

Pairs are cells of the feature grid closer than `radius` (the paper's gamma). Each unordered pair is listed once, by a
source cell and an offset. The reference code lists only *inner* sources, from which every offset stays on the grid:
rows 0..h-radius, columns radius-1..w-radius. That pair set is used in training and is called border="faithful";
border="full" lists all pairs on the grid.
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from tfwsss.background import combine_crf
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE

__all__ = [
    "AffinityLabels",
    "AffinityLoss",
    "affinity_labels",
    "affinity_loss",
    "combine_crf",
    "pair_affinity",
    "pair_offsets",
]

EPSILON = 1e-5  # keeps the logarithms and the quotients of the loss finite, as in the reference


class AffinityLabels(NamedTuple):
    """Pair labels [B, P, h-(r-1), w-2(r-1)], float32 0 or 1. All three 0: the pair has no label."""

    bg_pos: tf.Tensor
    fg_pos: tf.Tensor
    neg: tf.Tensor


class AffinityLoss(NamedTuple):
    """Scalars. total = bg/4 + fg/4 + neg/2."""

    bg: tf.Tensor
    fg: tf.Tensor
    neg: tf.Tensor
    total: tf.Tensor


@lru_cache(maxsize=16)
def _offsets(radius: int) -> tuple[tuple[int, int], ...]:
    reach = radius - 1
    same_row = [(0, dx) for dx in range(1, radius)]
    below = [(dy, dx) for dy in range(1, radius) for dx in range(-reach, radius) if dx * dx + dy * dy < radius * radius]
    return tuple(same_row + below)


def pair_offsets(radius: int = 5) -> np.ndarray:
    """Offsets from source to target cell: int [P, 2] of (dy, dx).

    Half of the disc dy^2 + dx^2 < radius^2, in the reference's order: the source's row to the right, then the rows
    below from left to right. P = 34 for radius 5.
    """
    if int(radius) != radius or radius < 2:
        raise ValueError(f"radius: expected an integer >= 2, found {radius!r}")
    return np.array(_offsets(int(radius)), np.int32)


def check_grid(height, width, radius: int) -> None:
    """Refuse a grid that has no inner source cell (smaller than radius x 2*radius-1; 5 x 9 for radius 5).

    Raises:
        DataError: the grid is too small. Unknown sizes (None) pass.
    """
    rows, columns = radius, 2 * radius - 1
    if (height is not None and height < rows) or (width is not None and width < columns):
        raise DataError(
            f"grid of {height} x {width} cells: the pairs of radius {radius} need at least {rows} x {columns} "
            "(the reference's pair set; border='full' takes any grid, and training needs a larger crop)"
        )


def _inner_window(grid, radius: int):
    """window(dy, dx): the cells at that offset from the inner sources of a [B, h, w, ...] numpy array or tensor."""
    height, width = grid.shape[1], grid.shape[2]
    check_grid(height, width, radius)
    if height is None or width is None:
        height, width = tf.shape(grid)[1], tf.shape(grid)[2]
    reach = radius - 1
    rows, columns = height - reach, width - 2 * reach
    return lambda dy, dx: grid[:, dy : dy + rows, reach + dx : reach + dx + columns]


def affinity_labels(label_map, radius: int = 5) -> AffinityLabels:
    """Labels of all inner pairs of a grid of class labels.

    A pair of equal labels is positive (background or foreground), of different labels negative; a pair with an ignored
    end has no label.

    Args:
        label_map: [B, h, w] labels on the feature grid, any integer or float dtype: 0 background, k+1 class k,
            255 ignore. A numpy array gives numpy arrays, a tensor gives tensors (graph mode and unknown sizes too).
        radius: pairs are closer than this many cells, >= 2.

    Raises:
        DataError: the grid is smaller than radius x 2*radius-1.
    """
    pair_offsets(radius)
    if len(label_map.shape) != 3:
        raise ValueError(f"label_map: expected shape [B, h, w], found {list(label_map.shape)}")
    if tf.is_tensor(label_map):
        label, stack, cast = tf.cast(label_map, tf.int32), tf.stack, tf.cast
    else:
        label, stack, cast = np.asarray(label_map).astype(np.int32), np.stack, np.ndarray.astype
    window = _inner_window(label, radius)
    source, target = window(0, 0)[:, None], stack([window(dy, dx) for dy, dx in _offsets(radius)], axis=1)
    labelled = (source != IGNORE) & (target != IGNORE)
    equal = source == target
    return AffinityLabels(
        bg_pos=cast(labelled & equal & (source == 0), np.float32),
        fg_pos=cast(labelled & equal & (source != 0), np.float32),
        neg=cast(labelled & ~equal, np.float32),
    )


@lru_cache(maxsize=16)
def _distance_function(radius: int):
    """Mean absolute difference over the inner pairs, with a gradient that recomputes the differences.

    Plain differentiation keeps P copies of the feature map (1.2 GB for the reference's batch). Here one offset is
    computed after the other, forwards and backwards; without the explicit order a graph would cut all windows at once.
    """
    reach = radius - 1

    @tf.custom_gradient
    def distance(features):
        window = _inner_window(features, radius)
        source = window(0, 0)
        distances: list[tf.Tensor] = []
        for dy, dx in _offsets(radius):
            with tf.control_dependencies(distances[-1:]):
                distances.append(tf.reduce_mean(tf.abs(source - window(dy, dx)), axis=-1))

        def gradient(upstream):
            upstream /= tf.cast(tf.shape(features)[-1], features.dtype)
            # Differences only: TensorFlow turns a chain of additions into one that keeps all P terms and adds them in an
            # order that depends on timing, so that a training could not be repeated bit for bit.
            at_source = tf.zeros_like(source)
            minus_at_target = tf.zeros_like(features)
            for index, (dy, dx) in enumerate(_offsets(radius)):
                with tf.control_dependencies([minus_at_target]):
                    part = tf.sign(window(dy, dx) - source) * upstream[:, index, :, :, None]
                    at_source -= part
                    minus_at_target -= tf.pad(part, [[0, 0], [dy, reach - dy], [reach + dx, reach - dx], [0, 0]])
            return tf.pad(at_source, [[0, 0], [0, reach], [reach, reach], [0, 0]]) - minus_at_target

        return tf.stack(distances, axis=1), gradient

    return distance


@lru_cache(maxsize=16)  # photos of a data set share few sizes
def valid_pairs(height: int, width: int, radius: int) -> np.ndarray:
    """bool [P, h, w], read-only: does the pair of offset p from cell (y, x) stay on the grid?"""
    offsets = pair_offsets(radius)
    row = np.arange(height)[None, :, None] + offsets[:, 0, None, None]
    column = np.arange(width)[None, None, :] + offsets[:, 1, None, None]
    valid = (row < height) & (column >= 0) & (column < width)
    valid.flags.writeable = False
    return valid


def pair_affinity(features, radius: int = 5, border: Literal["faithful", "full"] = "faithful") -> tf.Tensor:
    """Semantic affinity of pairs: ``exp(-mean_f |feature_i - feature_j|)`` (equation 4, with the mean over channels).

    Args:
        features: [B, h, w, F] feature map of AffinityNet, any float dtype; computed in float32.
        radius: pairs are closer than this many cells, >= 2.
        border: "faithful" is the reference's inner pair set, "full" every pair on the grid.

    Returns:
        float32 in 0..1: [B, P, h-(r-1), w-2(r-1)] for "faithful", [B, P, h, w] for "full" where pairs that leave the
        grid are 0.

    Raises:
        DataError: border="faithful" and the grid is smaller than radius x 2*radius-1.
    """
    pair_offsets(radius)
    features = tf.cast(features, tf.float32)
    if features.shape.rank != 4:
        raise ValueError(f"features: expected shape [B, h, w, F], found {features.shape}")
    if border == "faithful":
        return tf.exp(-_distance_function(radius)(features))
    if border != "full":
        raise ValueError(f"border: expected 'faithful' or 'full', found {border!r}")
    # On a grid padded by the reach, the inner sources are exactly the cells of the original grid.
    reach = radius - 1
    margins = [[0, 0], [0, reach], [reach, reach], [0, 0]]
    affinity = tf.exp(-_distance_function(radius)(tf.pad(features, margins)))
    inside = tf.pad(tf.ones_like(features[:1, :, :, 0]), margins[:3])
    on_grid = _inner_window(inside, radius)
    return affinity * tf.stack([on_grid(dy, dx) for dy, dx in _offsets(radius)], axis=1)


def affinity_loss(affinity, labels: AffinityLabels, total=lambda count: count, weight=None) -> AffinityLoss:
    """Balanced cross entropy over the labelled pairs of the whole batch (equations 5 and 6).

    Args:
        affinity: [B, P, ...] in 0..1, from `pair_affinity` with border="faithful".
        labels: three arrays of the same shape.
        total: where the batch is spread over several devices, sums a count of pairs over all of them. The results are
            then the device's shares, which add up to the loss of the whole batch.
        weight: [B], how much the pairs of each photo count; None: alike.

    Returns:
        Mean loss of background positives, of foreground positives, of negatives (0 without such pairs), and
        ``bg/4 + fg/4 + neg/2``.
    """
    affinity = tf.cast(affinity, tf.float32)

    def mean_over(mask, loss):
        mask = tf.cast(mask, tf.float32)
        if weight is not None:
            mask *= tf.cast(weight, tf.float32)[:, None, None, None]
        return tf.reduce_sum(mask * loss) / (total(tf.reduce_sum(mask)) + EPSILON)

    positive = -tf.math.log(affinity + EPSILON)
    negative = -tf.math.log(1.0 + EPSILON - affinity)
    bg = mean_over(labels.bg_pos, positive)
    fg = mean_over(labels.fg_pos, positive)
    neg = mean_over(labels.neg, negative)
    return AffinityLoss(bg, fg, neg, bg / 4 + fg / 4 + neg / 2)
