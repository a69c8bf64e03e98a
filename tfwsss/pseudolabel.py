"""Between the photo and the grid of the random walk, and from walked scores to labels (Ahn & Kwak, CVPR 2018, section 3.3).

numpy only: the CRF's worker processes import this without TensorFlow.
"""

from __future__ import annotations

import numpy as np

from tfwsss.background import background_score
from tfwsss.config import LabelCrf
from tfwsss.crf import dense_crf

STRIDE = 8  # pixels of a grid cell: the output stride of AffinityNet


def grid_size(height: int, width: int) -> tuple[int, int]:
    """Cells that cover a photo, the last row and column possibly in part."""
    return -(-height // STRIDE), -(-width // STRIDE)


def to_grid(scores) -> np.ndarray:
    """Mean of every 8x8 cell, after zero padding right and bottom as in the reference: [C, H, W] -> [C, h, w] float32."""
    scores = np.asarray(scores, np.float32)
    channels, height, width = scores.shape
    rows, columns = grid_size(height, width)
    padded = np.zeros((channels, rows * STRIDE, columns * STRIDE), np.float32)
    padded[:, :height, :width] = scores
    return padded.reshape(channels, rows, STRIDE, columns, STRIDE).mean(axis=(2, 4))


def _interpolation(cells: int, pixels: int) -> np.ndarray:
    """[pixels, cells] weights of bilinear interpolation with half-pixel centres and clamped ends."""
    position = np.maximum((np.arange(pixels) + 0.5) / STRIDE - 0.5, 0.0)
    lower = np.minimum(position.astype(int), cells - 1)
    upper = np.minimum(lower + 1, cells - 1)
    fraction = (position - lower).astype(np.float32)
    weights = np.zeros((pixels, cells), np.float32)
    np.add.at(weights, (np.arange(pixels), lower), 1 - fraction)
    np.add.at(weights, (np.arange(pixels), upper), fraction)
    return weights


def from_grid(scores, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement by 8 and crop to the photo: [C, h, w] -> [C, height, width] float32."""
    scores = np.asarray(scores, np.float32)
    rows = _interpolation(scores.shape[1], height)
    columns = _interpolation(scores.shape[2], width)
    return np.matmul(np.matmul(rows, scores), columns.T)


def walk_input(cam, alphas) -> np.ndarray:
    """Channels of the random walk: one background for each alpha, then the maps.

    Args:
        cam: [K, H, W] in 0..1.
        alphas: [A] background exponents.

    Returns:
        [A + K, h, w] float32 on the grid.
    """
    backgrounds = np.stack([background_score(cam, alpha) for alpha in alphas])
    return to_grid(np.concatenate([backgrounds, np.asarray(cam, np.float32)]))


def label_of_scores(classes, scores) -> np.ndarray:
    """Strongest channel as a label map: scores [K+1, H, W] with background first -> [H, W] uint8 of 0 and k+1."""
    labels = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    return labels[np.argmax(scores, axis=0)]


def pseudo_label(classes, walked, image, crf: LabelCrf | None) -> np.ndarray:
    """Final label map of one photo.

    Args:
        classes: [K] class indices.
        walked: [K+1, h, w] walked scores on the grid, background first.
        image: [H, W, 3] uint8.
        crf: settings of the final dense CRF; None leaves it out, as the reference code does. The CRF gets the walked
            labels with a fixed confidence, not the scores: those are flat after a long walk, so that the pairwise terms
            would erase small objects.

    Returns:
        [H, W] uint8: 0 background, k+1 class k.
    """
    label = from_grid(walked, *image.shape[:2]).argmax(axis=0)
    if crf is not None and len(classes):
        others = (1.0 - crf.confidence) / len(classes)
        unary = np.where(label[..., None] == np.arange(len(classes) + 1), np.float32(crf.confidence), np.float32(others))
        label = dense_crf(image, unary, **crf.model_dump(exclude={"confidence"})).argmax(axis=2)
    return np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)[label]
