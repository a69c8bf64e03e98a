"""TensorFlow 2.21 and Keras 3: Keras does what it can, this project the rest."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance

from tfwsss.stack.batch_norm import BatchNormalization
from tfwsss.stack.dropout import ReplicaMask, SpatialNoise
from tfwsss.stack.geometry import output_to_input
from tfwsss.stack.grouped_updates import GroupedUpdates as Updates  # Keras 3 has one learning rate for all variables

__all__ = ["BatchNormalization", "Updates"]

NAME = "keras3"


def f1_score(classes: int) -> keras.metrics.Metric:
    """F1 at threshold 0.5, the mean over the classes; update_state(tags [B, C], probabilities [B, C])."""
    return keras.metrics.F1Score(average="macro", threshold=0.5, name="f1")


# ------------------------------------------------------------------------------------------------ augmentation


def warp(image: np.ndarray, angle: float, shear: float, *, bilinear: bool, fill: float) -> np.ndarray:
    """Shear, then turn counterclockwise about the centre.

    Args:
        image: [H, W, C] uint8 or float32.
        angle: radians.
        shear: columns per row.
        bilinear: interpolate; else take the nearest cell.
        fill: value outside the image.

    Returns:
        The same shape and type.
    """
    height, width = image.shape[:2]
    with tf.device("CPU:0"):  # one photo among many that are prepared at the same time
        return keras.ops.image.affine_transform(
            image,
            output_to_input(height, width, angle, shear),
            interpolation="bilinear" if bilinear else "nearest",
            fill_mode="constant",
            fill_value=fill,
            data_format="channels_last",
        ).numpy()


def sharpen(image: np.ndarray, factor: float) -> np.ndarray:
    """[H, W, 3] uint8 -> the same: smoothed for factors below 1, sharpened above. Keras' layer darkens the border."""
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor))


def cutout(images: tf.Tensor, centers: tf.Tensor, side: int) -> tf.Tensor:
    """Set a square to 0. Keras' RandomErasing draws the place itself, where no seed of ours reaches it.

    Args:
        images: [B, H, W, C].
        centers: [B, 2] int32, row and column.
        side: of the square, even; it covers ``center - side / 2`` to ``center + side / 2 - 1`` and may lie partly outside.
    """

    def beside(length, center):  # [B, length], whether the row or column is none of the square's
        distance = tf.range(length)[None, :] - center[:, None]
        return (distance < -(side // 2)) | (distance >= side // 2)

    rows, columns = beside(tf.shape(images)[1], centers[:, 0]), beside(tf.shape(images)[2], centers[:, 1])
    kept = rows[:, :, None] | columns[:, None, :]
    return tf.where(kept[..., None], images, tf.zeros((), images.dtype))


# ---------------------------------------------------------------------------------------------------- dropout


# Keras' generator gives all replicas of a strategy the same numbers.


@keras.saving.register_keras_serializable(package="tfwsss")
class Dropout(ReplicaMask, keras.layers.Dropout):
    """Keras' dropout with a mask of its own on each replica."""

    def draw_seed(self):
        return self.seed_generator.next()


@keras.saving.register_keras_serializable(package="tfwsss")
class SpatialDropout2D(SpatialNoise, ReplicaMask, keras.layers.SpatialDropout2D):
    """Keras' spatial dropout with a mask of its own on each replica."""

    def draw_seed(self):
        return self.seed_generator.next()


# ------------------------------------------------------------------------------------------- policies, variables


def dtype_policy(name: str):
    """What a layer takes as `dtype` for "float32", "mixed_bfloat16" or "mixed_float16"."""
    return keras.DTypePolicy(name)


def global_dtype_policy():
    return keras.mixed_precision.dtype_policy()


def tf_variable(variable) -> tf.Variable:
    """The tf.Variable inside a Keras variable; a tf.Variable is one already."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def variable_path(variable) -> str:
    """Path of a layer's variable ("conv/kernel"); what stands before the layer's name depends on where it was built."""
    return variable.path
