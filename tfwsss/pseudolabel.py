"""Between the photo and the grid of the random walk, and from walked scores to labels (Ahn & Kwak, CVPR 2018, section 3.3).

numpy only: imported without TensorFlow.
"""

from __future__ import annotations

import numpy as np

from tfwsss.background import background_score
from tfwsss.config import LabelCrf
from tfwsss.crf import dense_crf
from tfwsss.interpolation import enlarge_cells

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


def from_grid(scores, height: int, width: int) -> np.ndarray:
    """Bilinear enlargement by 8 and crop to the photo: [C, h, w] -> [C, height, width] float32."""
    return enlarge_cells(scores, STRIDE, height, width)


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


def exponents_won(backgrounds, foreground, height: int, width: int) -> np.ndarray:
    """At how many background exponents each pixel is foreground.

    The weaker the background, the larger its exponent, and a walk keeps that order: a pixel that is foreground at one exponent
    is so at all larger ones, and of the same class. So this number says all labels at once (`tfwsss.metrics.LabelSweep`).

    Args:
        backgrounds: [A, h, w] walked background scores of different exponents.
        foreground: [K, h, w] walked class scores.
        height, width: of the photo.

    Returns:
        [height, width] uint8, 0..A.
    """
    strongest = from_grid(foreground, height, width).max(axis=0, initial=-np.inf)
    return np.count_nonzero(from_grid(backgrounds, height, width) < strongest, axis=0).astype(np.uint8)


def label_of_scores(classes, scores) -> np.ndarray:
    """Strongest channel as a label map: scores [K+1, H, W] with background first -> [H, W] uint8 of 0 and k+1."""
    labels = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    return labels[np.argmax(scores, axis=0)]


def pseudo_labels(classes, walks, image, crf: LabelCrf | None) -> list[np.ndarray]:
    """Final label maps of several walks of one photo.

    Args:
        classes: [K] class indices.
        walks: of [K+1, h, w] walked scores on the grid, background first.
        image: [H, W, 3] uint8.
        crf: settings of the final dense CRF, whose kernels all walks share; None leaves it out, as the reference code does.
            The CRF gets the walked labels with a fixed confidence, not the scores: those are flat after a long walk, so that
            the pairwise terms would erase small objects.

    Returns:
        [H, W] uint8 for each walk: 0 background, k+1 class k.
    """
    channels = np.stack([from_grid(walked, *image.shape[:2]).argmax(axis=0) for walked in walks])
    if crf is not None and len(classes):
        others = (1.0 - crf.confidence) / len(classes)
        unary = np.where(channels[..., None] == np.arange(len(classes) + 1), np.float32(crf.confidence), np.float32(others))
        channels = dense_crf(image, unary, **crf.model_dump(exclude={"confidence"})).argmax(axis=3)
    return list(np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)[channels])


def pseudo_label(classes, walked, image, crf: LabelCrf | None) -> np.ndarray:
    """`pseudo_labels` of one walk."""
    return pseudo_labels(classes, [walked], image, crf)[0]
