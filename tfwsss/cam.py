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
    predict_label,
    threshold_of_alpha,
)
from tfwsss.normalization import Normalization

__all__ = [
    "CamHistogram",
    "alpha_of_threshold",
    "background_score",
    "choose_alphas",
    "cam_grid",
    "maps_of_scale",
    "multiscale_cam",
    "normalized_cam",
    "predict_label",
    "scaled_photos",
    "threshold_of_alpha",
]

EPSILON = 1e-5  # added to the maximum before dividing, as in the reference: a map of zeros stays zero


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) of the photo at `scale`: rounded half to even as the reference does, at least 1 pixel."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def cam_grid(height: int, width: int, stride: int) -> tuple[int, int]:
    """(rows, columns) of the maps of a photo that are kept at one value for `stride` pixels."""
    return -(-height // stride), -(-width // stride)


def scaled_photos(image, scales: Sequence[float], filter: Image.Resampling = Image.Resampling.BICUBIC) -> list[np.ndarray]:
    """The photo [H, W, 3] uint8 at every scale, resized by Pillow with antialiasing."""
    height, width = image.shape[:2]
    sizes = [scaled_size(height, width, scale) for scale in scales]
    photo = Image.fromarray(image)
    return [image if size == (height, width) else np.asarray(photo.resize(size[::-1], filter)) for size in sizes]


def maps_of_scale(
    maps_fn: Callable,
    photos,
    classes,
    size,
    *,
    flip: bool,
    normalization: Normalization,
    activation: Literal["relu", "sqrt"],
) -> tf.Tensor:
    """What one scale adds to the CAMs of photos of one size. TensorFlow operations, eager or inside a tf.function.

    Args:
        maps_fn: float32 [b, h, w, 3] normalised images -> [b, h', w', C] raw maps (before any rectification). With `flip`
            it is called with the photos and their mirror images as one batch.
        photos: [B, h, w, 3] uint8 RGB.
        classes: [K] int32, whose maps are wanted.
        size: (rows, columns) of the result, see `cam_grid`.
        flip: also use the mirror images.
        normalization: the network's input normalisation.
        activation: "relu", or "sqrt" of the rectified map (for VGG16).

    Returns:
        float32 [B, rows, columns, K], rectified and enlarged bilinearly, the mirror image's map added.
    """
    images = normalization(tf.cast(photos, tf.float32))
    maps = tf.convert_to_tensor(maps_fn(tf.concat([images, images[:, :, ::-1]], 0) if flip else images))
    if maps.shape.rank != 4 or not maps.shape[:1].is_compatible_with([None if images.shape[0] is None else images.shape[0] * (1 + flip)]):
        raise ValueError(f"maps_fn: expected [{images.shape[0]} photos * {1 + flip}, h, w, C], found {maps.shape}")
    maps = tf.nn.relu(tf.gather(tf.cast(maps, tf.float32), classes, axis=-1))
    if activation == "sqrt":
        maps = tf.sqrt(maps)
    maps = tf.image.resize(maps, size, "bilinear")
    if not flip:
        return maps
    straight, mirrored = tf.split(maps, 2)
    return straight + mirrored[:, :, ::-1]


def normalized_cam(total) -> np.ndarray:
    """Sums over scales [h, w, K] -> CAMs [K, h, w] in 0..1: each divided by its maximum plus `EPSILON`."""
    cam = np.ascontiguousarray(np.moveaxis(total, 2, 0))
    return cam / (cam.max(axis=(1, 2), keepdims=True) + EPSILON)


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
    stride: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rectified maps of one photo over scales and mirror images, normalised per class.

    Args:
        maps_fn, flip, normalization, activation: see `maps_of_scale`; maps_fn gives C = len(tags) maps.
        image: [H, W, 3] uint8 RGB.
        tags: [C] multi-hot; only tagged classes get a map.
        scales: factors of the photo's size.
        filter: how Pillow resizes the photo (both kinds are antialiased): BICUBIC is the reference's.
        stride: the maps have one value for so many pixels; 1 is the reference's, at the photo's size.

    Returns:
        classes: int32 [K], ascending indices of the tagged classes; K = 0 for a photo without tags.
        cam: float32 [K, ceil(H / stride), ceil(W / stride)] in 0..1, the maximum of each map just below 1 (or 0 for a map of
            zeros).

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
    tags = np.asarray(tags)
    classes = np.flatnonzero(tags).astype(np.int32)
    size = cam_grid(image.shape[0], image.shape[1], stride)
    if len(classes) == 0:
        return classes, np.zeros((0, *size), np.float32)

    def checked(images):
        maps = tf.convert_to_tensor(maps_fn(images))
        if maps.shape[-1] != len(tags):
            raise ValueError(f"maps_fn: expected {len(tags)} maps, found {maps.shape}")
        return maps

    total = np.zeros((*size, len(classes)), np.float32)
    for photo in scaled_photos(image, scales, filter):
        total += maps_of_scale(checked, photo[None], classes, size, flip=flip, normalization=normalization, activation=activation)[0]
    return classes, normalized_cam(total)
