"""TensorFlow 2.15 and Keras 2: tensorflow-addons 0.23 does what Keras lacks. Same names and meanings as `keras3`."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

from tfwsss.stack.addons_updates import MultiOptimizerUpdates as Updates
from tfwsss.stack.geometry import output_to_input

__all__ = ["Updates"]

NAME = "addons"

Dropout, SpatialDropout2D = keras.layers.Dropout, keras.layers.SpatialDropout2D  # their generators differ between replicas


def f1_score(classes: int) -> keras.metrics.Metric:
    return tfa.metrics.F1Score(num_classes=classes, average="macro", threshold=0.5, name="f1")


# ------------------------------------------------------------------------------------------------ augmentation
# Photos are prepared in threads that each hold one of TensorFlow's own; a tf.function called there would wait for
# another. Hence `python_function`: the operations run one by one in the calling thread.


def warp(image: np.ndarray, angle: float, shear: float, *, bilinear: bool, fill: float) -> np.ndarray:
    with tf.device("CPU:0"):
        matrix = output_to_input(*image.shape[:2], angle, shear)
        return tfa.image.transform(image, matrix, interpolation="bilinear" if bilinear else "nearest", fill_value=fill).numpy()


def sharpen(image: np.ndarray, factor: float) -> np.ndarray:
    with tf.device("CPU:0"):
        return tfa.image.sharpness.python_function(tf.constant(image), tf.constant(factor, tf.float32)).numpy()


def cutout(images: tf.Tensor, centers: tf.Tensor, side: int) -> tf.Tensor:
    return tfa.image.cutout(images, side, centers)


# ---------------------------------------------------------------------------------------------------- dropout


def prepare_dropout() -> None:
    """Keep the state of dropout in generators; Keras 2 would keep it inside the operations, where no checkpoint can reach it."""
    keras.backend.experimental.enable_tf_random_generator()


def dropout_states(model) -> list[tf.Variable]:
    """States of the generators, which Keras 2 leaves out of `model.variables`."""
    generators = (getattr(getattr(layer, "_random_generator", None), "_generator", None) for layer in model.layers)
    return [generator.state for generator in generators if generator is not None]


# ------------------------------------------------------------------------------------------- policies, variables


def dtype_policy(name: str):
    return keras.mixed_precision.Policy(name)


def global_dtype_policy():
    return keras.mixed_precision.global_policy()


def tf_variable(variable) -> tf.Variable:
    return variable


def variable_path(variable) -> str:
    return variable.name.split(":")[0]  # "conv/kernel:0"
