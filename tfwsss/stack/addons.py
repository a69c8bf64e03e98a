"""TensorFlow 2.15 and Keras 2: tensorflow-addons 0.23 does what Keras lacks. Same names and meanings as `keras3`."""

from __future__ import annotations

import random

import keras
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

from tfwsss.stack.addons_updates import MultiOptimizerUpdates as Updates
from tfwsss.stack.dropout import ReplicaMask, SpatialNoise
from tfwsss.stack.geometry import output_to_input

__all__ = ["Updates"]

NAME = "addons"

BatchNormalization = keras.layers.BatchNormalization  # fused already


def f1_score(classes: int) -> keras.metrics.Metric:
    return tfa.metrics.F1Score(num_classes=classes, average="macro", threshold=0.5, name="f1")


# ------------------------------------------------------------------------------------------------ augmentation
# Photos are prepared in threads that each hold one of TensorFlow's own; a tf.function called there would wait for
# another. Hence `python_function`: the operations run one by one in the calling thread.


def warp(image: np.ndarray, angle: float, shear: float, *, bilinear: bool, fill: float) -> np.ndarray:
    with tf.device("CPU:0"):
        height, width = image.shape[:2]
        matrix = output_to_input(height, width, angle, shear)
        return tfa.image.transform(image, matrix, interpolation="bilinear" if bilinear else "nearest", fill_value=fill).numpy()


def sharpen(image: np.ndarray, factor: float) -> np.ndarray:
    with tf.device("CPU:0"):
        return tfa.image.sharpness.python_function(tf.constant(image), tf.constant(factor, tf.float32)).numpy()


def cutout(images: tf.Tensor, centers: tf.Tensor, side: int) -> tf.Tensor:
    return tfa.image.cutout(images, side, centers)


# ---------------------------------------------------------------------------------------------------- dropout


# Keras 2 keeps the state of dropout where no checkpoint reaches it: inside the operations, or in generators that
# `model.variables` lacks and that differ between workers.


class _Seeded(ReplicaMask):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed_state = tf.Variable(
            [random.randrange(2**31), 0],  # Python's generator, which make_deterministic seeds
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="seed_state",
        )

    def draw_seed(self):
        seed = tf.identity(self.seed_state)
        self.seed_state.assign_add(tf.constant([0, 1], tf.int64))
        return seed


@keras.saving.register_keras_serializable(package="tfwsss")
class Dropout(_Seeded, keras.layers.Dropout):
    """Keras' dropout with a mask of its own on each replica, and its state in a variable."""


@keras.saving.register_keras_serializable(package="tfwsss")
class SpatialDropout2D(SpatialNoise, _Seeded, keras.layers.SpatialDropout2D):
    """Keras' spatial dropout with a mask of its own on each replica, and its state in a variable."""


# ------------------------------------------------------------------------------------------- policies, variables


def dtype_policy(name: str):
    return keras.mixed_precision.Policy(name)


def global_dtype_policy():
    return keras.mixed_precision.global_policy()


def tf_variable(variable) -> tf.Variable:
    return variable


def variable_path(variable) -> str:
    return variable.name.split(":")[0]  # "conv/kernel:0"
