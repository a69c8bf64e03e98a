"""Batch normalisation of Keras 3 in one kernel for training. Keras 3 composes it of a dozen passes over the feature map."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfwsss")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer over the last axis of [B, h, w, c], with TensorFlow's fused kernel under ``training=True``.

    As in Keras 2 and in PyTorch, the running variance follows the unbiased variance of the batch. Frozen, or outside
    training, it is Keras' layer unchanged. Masks, other axes, renormalisation and statistics over several replicas, which
    no network here uses, are not supported.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self._parameter(self.gamma, 1.0),
            offset=self._parameter(self.beta, 0.0),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0,
            is_training=True,
        )
        for running, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + new * (1.0 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)

    def _parameter(self, variable, otherwise: float):
        """gamma or beta in float32, which the kernel wants for every type of input; a constant where the layer has none."""
        if variable is None:
            return tf.fill([self.moving_mean.shape[0]], otherwise)
        return tf.cast(tf.convert_to_tensor(variable), tf.float32)
