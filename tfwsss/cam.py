"""Class activation maps of one photo at several scales, and what they say without any refinement (Ahn & Kwak, CVPR 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from tfwsss.background import (
    CamHistogram,
    alpha_of_threshold,
    background_score,
    choose_alphas,
    threshold_of_alpha,
)
from tfwsss.normalization import Normalization

__all__ = [
    "CamHistogram",
    "alpha_of_threshold",
    "background_score",
    "choose_alphas",
    "multiscale_cam",
    "predict_label",
    "threshold_of_alpha",
]

EPSILON = 1e-5  # added to the maximum before dividing, as in the reference: a map of zeros stays zero


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) of the photo at `scale`: rounded half to even as the reference does, at least 1 pixel."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def multiscale_cam(
    maps_fn: Callable,
    image,
    tags,
    *,
    scales: Sequence[float],
    flip: bool,
    normalization: Normalization,
    activation: Literal["relu", "sqrt"],
    filter: Image.Resampling = Image.Resampling.BICUBIC,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rectified maps over scales and mirror images, at the photo's size, normalised per class.

    Args:
        maps_fn: float32 [b, h, w, 3] normalised images -> [b, h', w', C] raw maps (before any rectification). With
            `flip` it is called with the photo and its mirror image as a batch of 2, once per scale.
        image: [H, W, 3] uint8 RGB.
        tags: [C] multi-hot; only tagged classes get a map.
        scales: factors of the photo's size.
        flip: also use the mirror image.
        normalization: the network's input normalisation.
        activation: "relu", or "sqrt" of the rectified map (for VGG16).
        filter: how Pillow resizes the photo (both kinds are antialiased): BICUBIC is the reference's.

    Returns:
        classes: int32 [K], ascending indices of the tagged classes; K = 0 for a photo without tags.
        cam: float32 [K, H, W] in 0..1, the maximum of each map just below 1 (or 0 for a map of zeros).

    Raises:
        ValueError: an argument has the wrong shape or is unknown.
    """
    image = np.ascontiguousarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image: expected [H, W, 3] uint8, found {list(image.shape)} {image.dtype}")
    if activation not in ("relu", "sqrt"):
        raise ValueError(f"activation: expected 'relu' or 'sqrt', found {activation!r}")
    if not scales:
        raise ValueError("scales: expected at least one")
    height, width = image.shape[:2]
    tags = np.asarray(tags)
    classes = np.flatnonzero(tags).astype(np.int32)
    if len(classes) == 0:
        return classes, np.zeros((0, height, width), np.float32)
    photo = Image.fromarray(image)
    total = np.zeros((height, width, len(classes)), np.float32)
    for scale in scales:
        rows, columns = scaled_size(height, width, scale)
        resized = image if (rows, columns) == (height, width) else np.asarray(photo.resize((columns, rows), filter))
        network_input = normalization(resized)
        batch = np.stack([network_input, network_input[:, ::-1]]) if flip else network_input[None]
        maps = tf.convert_to_tensor(maps_fn(tf.convert_to_tensor(batch)))
        if maps.shape.rank != 4 or maps.shape[0] != len(batch) or maps.shape[-1] != len(tags):
            raise ValueError(f"maps_fn: expected [{len(batch)}, h, w, {len(tags)}], found {list(maps.shape)}")
        maps = tf.nn.relu(tf.gather(tf.cast(maps, tf.float32), classes, axis=-1))
        if activation == "sqrt":
            maps = tf.sqrt(maps)
        maps = tf.image.resize(maps, (height, width), "bilinear").numpy()
        total += maps[0]
        if flip:
            total += maps[1, :, ::-1]
    cam = np.ascontiguousarray(total.transpose(2, 0, 1))
    return classes, cam / (cam.max(axis=(1, 2), keepdims=True) + EPSILON)


def predict_label(classes, cam, *, threshold: float | None = None, alpha: float | None = None) -> np.ndarray:
    """Label map straight from the class activation maps.

    Args:
        classes: [K] class indices.
        cam: [K, H, W] in 0..1.
        threshold: background where no map is above it, or
        alpha: background where no map is above the score ``(1 - max_c cam_c)**alpha``. Exactly one of the two.

    Returns:
        [H, W] uint8: 0 background, k+1 class k; all background for K = 0.
    """
    if (threshold is None) == (alpha is None):
        raise ValueError("expected exactly one of threshold and alpha")
    cam = np.asarray(cam, np.float32)
    if cam.ndim != 3 or cam.shape[0] != len(classes):
        raise ValueError(f"cam: expected [{len(classes)}, H, W], found {list(cam.shape)}")
    if alpha is None:
        background = np.full(cam.shape[1:], threshold, np.float32)
    else:
        background = background_score(cam, alpha)
    labels = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    return labels[np.concatenate([background[None], cam]).argmax(axis=0)]
