"""Labels on the coarse grid of AffinityNet: one label per cell of 8 x 8 pixels (Ahn & Kwak, CVPR 2018, section 3.2).

Grid labels: 0 confident background, k+1 confident class k, 255 neither.
"""

import numpy as np

from tfwsss.storage.artifacts import IGNORE

CELL = 8  # pixels of a cell's side: the output stride of AffinityNet
OUTSIDE = 1e-5  # a cell whose scores are all below this lies outside the photo


def block_mean(scores: np.ndarray, cell: int = CELL) -> np.ndarray:
    """Mean of each cell: [H, W, C] -> float32 [H/cell, W/cell, C].

    Raises:
        ValueError: a side is not a multiple of `cell`.
    """
    height, width, channels = scores.shape
    _check_sides(height, width, cell)
    blocks = scores.reshape(height // cell, cell, width // cell, cell, channels)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def label_of_scores(low: np.ndarray, high: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grid label of two score maps, the rule of the PSA reference code.

    A class that wins with strong background scores (`low`) is confident foreground; background that wins with weak
    ones (`high`) is confident and overrides it; the rest, and cells outside the photo, are ignored.

    Args:
        low: [h, w, K+1] scores, channel 0 background, made with the low alpha (background is strong).
        high: [h, w, K+1], made with the high alpha (background is weak).
        classes: [K] class indices without background of the channels 1..K.

    Returns:
        uint8 [h, w]: 0, k+1 or 255.
    """
    values = np.concatenate([[IGNORE], np.asarray(classes, np.int64) + 1]).astype(np.uint8)
    label = values[low.argmax(axis=-1)]
    label[high.argmax(axis=-1) == 0] = 0
    label[np.maximum(low.max(axis=-1), high.max(axis=-1)) < OUTSIDE] = IGNORE
    return label


def majority_label(label: np.ndarray, cell: int = CELL) -> np.ndarray:
    """Grid label of a label map by vote: [H, W] uint8 -> [H/cell, W/cell] uint8.

    A cell takes its most frequent label other than 255. It is 255 when more than half of its pixels are 255, or when
    two labels are equally frequent.

    Raises:
        ValueError: a side is not a multiple of `cell`.
    """
    height, width = label.shape
    _check_sides(height, width, cell)
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    cells = label.reshape(height // cell, cell, width // cell, cell)
    votes = np.stack([(cells == value).sum(axis=(1, 3)) for value in values], axis=-1)  # [h, w, values]
    ignored = values == IGNORE
    mostly_ignored = votes[..., ignored].sum(axis=-1) * 2 > cell * cell
    votes[..., ignored] = 0
    tied = (votes == votes.max(axis=-1, keepdims=True)).sum(axis=-1) > 1
    winner = values[votes.argmax(axis=-1)].astype(np.uint8)
    return np.where(mostly_ignored | tied, np.uint8(IGNORE), winner)


def _check_sides(height: int, width: int, cell: int) -> None:
    if height % cell or width % cell:
        raise ValueError(f"expected sides that are multiples of {cell}, found {height} x {width}")
