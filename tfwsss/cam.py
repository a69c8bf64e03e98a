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
from tfwsss.data.mirrors import Mirrors, mirrored_back, mirrors, with_mirrors
from tfwsss.interpolation import enlarged_sum
from tfwsss.normalization import Normalization

__all__ = [
    "CamHistogram",
    "alpha_of_threshold",
    "background_score",
    "choose_alphas",
    "maps_of_scale",
    "multiscale_cam",
    "normalized_maps",
    "predict_label",
    "rectified",
    "scaled_photos",
    "threshold_of_alpha",
]

EPSILON = 1e-5  # added to the maximum before dividing, as in the reference: a map of zeros stays zero


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) of the photo at `scale`: rounded half to even as the reference does, at least 1 pixel."""
    return max(round(height * scale), 1), max(round(width * scale), 1)


def scaled_photos(
    image, scales: Sequence[float], filter: Image.Resampling = Image.Resampling.BICUBIC, *, long_side: int | None = None
) -> list[np.ndarray]:
    """The photo [H, W, 3] uint8 at every scale, resized by Pillow with antialiasing.

    At scale 1 its long side has `long_side` pixels; None: as many as it has, as in the reference.
    """
    height, width = image.shape[:2]
    own = 1.0 if long_side is None else long_side / max(height, width)
    sizes = [scaled_size(height, width, scale * own) for scale in scales]
    photo = Image.fromarray(image)
    return [image if size == (height, width) else np.asarray(photo.resize(size[::-1], filter)) for size in sizes]


def rectified(maps, activation: Literal["relu", "sqrt"]) -> tf.Tensor:
    """Raw maps of a classifier -> float32 maps >= 0. TensorFlow operations, eager or inside a tf.function.

    Args:
        maps: [B, h, w, C], any float dtype.
        activation: "relu", or "sqrt" of the rectified map (for VGG16).
    """
    maps = tf.nn.relu(tf.cast(maps, tf.float32))
    return tf.sqrt(maps) if activation == "sqrt" else maps


def maps_of_scale(network: Callable, photos: np.ndarray, *, images: Mirrors) -> np.ndarray:
    """What one scale adds to the CAMs of photos of one size.

    Args:
        network: uint8 array [b, h, w, 3] -> rectified maps [b, h', w', C]. It is called with the photos and their mirror images
            as one batch.
        photos: [B, h, w, 3] uint8 RGB.
        images: which mirror images to use besides.

    Returns:
        float32 [B, h', w', C], the sum over photo and mirror images. Mirroring and bilinear enlargement may be exchanged, so the
        maps are added as small as they are.
    """
    count = len(photos) * len(images)
    maps = np.asarray(network(with_mirrors(photos, images)), np.float32)
    if maps.ndim != 4 or len(maps) != count:
        raise ValueError(f"maps_fn: expected [{count}, h, w, C], found {list(maps.shape)}")
    first, *others = mirrored_back(maps, images)
    return sum(others, first)


def normalized_maps(maps: Sequence[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """Maps [K, h, w] of every scale, divided such that their enlarged sum is the CAMs, in 0..1.

    The divisor of a class is the sum's maximum on the photo of `height` x `width` pixels, plus `EPSILON`.
    """
    largest = enlarged_sum(maps, height, width).max(axis=(1, 2), keepdims=True)
    return [one / (largest + EPSILON) for one in maps]


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
    """Sum the rectified maps of one photo over scales and mirror images, enlarged bilinearly, normalised per class.

    Args:
        maps_fn: float32 [b, h, w, 3] normalised images -> [b, h', w', C] raw maps (before any rectification), C = len(tags).
        image: [H, W, 3] uint8 RGB.
        tags: [C] multi-hot; only tagged classes get a map.
        scales: factors of the photo's size.
        flip: also use the mirror image.
        normalization: the network's input normalisation.
        activation: see `rectified`.
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
    tags, size = np.asarray(tags), image.shape[:2]
    classes = np.flatnonzero(tags).astype(np.int32)
    if len(classes) == 0:
        return classes, np.zeros((0, *size), np.float32)

    def maps_of(photo: np.ndarray) -> np.ndarray:
        maps = maps_of_scale(lambda photos: rectified(maps_fn(normalization(photos)), activation), photo[None], images=mirrors(flip, "upright"))
        if maps.shape[-1] != len(tags):
            raise ValueError(f"maps_fn: expected {len(tags)} maps, found {list(maps.shape)}")
        return maps[0].transpose(2, 0, 1)[classes]

    return classes, enlarged_sum(normalized_maps([maps_of(photo) for photo in scaled_photos(image, scales, filter)], *size), *size)
