"""Group normalisation (Wu & He, ECCV 2018), with a form of its own for conversion."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfwsss.models.conversion import is_converting


@keras.saving.register_keras_serializable(package="tfwsss")
class GroupNormalization(keras.layers.GroupNormalization):
    """Keras' layer over the last axis of [B, h, w, c] that heeds `conversion`.

    Keras reduces a five-axis tensor over three axes and scales it in the same shape. Runtimes that keep channels first
    transpose for that and find no fast path for such reductions and broadcasts: three quarters of a quantised network's
    time can go there. For conversion the same sums run over one contiguous axis, and the result is one multiplication
    and one addition per channel.
    """

    def call(self, inputs):
        if not is_converting():
            return super().call(inputs)
        channels = inputs.shape[-1]
        x = tf.transpose(tf.cast(inputs, tf.float32), [0, 3, 1, 2])
        groups = tf.reshape(x, [tf.shape(inputs)[0], self.groups, -1])
        mean = tf.reduce_mean(groups, axis=2, keepdims=True)
        variance = tf.reduce_mean(tf.square(groups - mean), axis=2, keepdims=True)
        per_channel = [1, self.groups, channels // self.groups]
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.reshape(self.gamma, per_channel)
        shift = tf.reshape(self.beta, per_channel) - mean * scale
        scale, shift = (tf.reshape(value, [-1, channels, 1, 1]) for value in (scale, shift))
        return tf.cast(tf.transpose(x * scale + shift, [0, 2, 3, 1]), self.compute_dtype)
