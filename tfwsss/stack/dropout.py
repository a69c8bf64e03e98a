"""What both stacks' dropout layers share: masks from a counted seed, different on each replica of a strategy."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class ReplicaMask:
    """Mix-in before a Keras dropout layer. The class gives `draw_seed()`, a pair of integers that changes with every call."""

    rate: float
    draw_seed: Callable[[], object]

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        seed = tf.cast(self.draw_seed(), tf.int32)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            seed = tf.random.experimental.stateless_fold_in(seed, replica.replica_id_in_sync_group)
        return tf.nn.experimental.stateless_dropout(inputs, rate=self.rate, seed=seed, noise_shape=self.mask_shape(tf.shape(inputs)))

    def mask_shape(self, shape):
        return shape


class SpatialNoise:
    """Mix-in: one decision for a whole channel of a sample, [B, 1, 1, C]."""

    def mask_shape(self, shape):
        return tf.stack([shape[0], 1, 1, shape[3]])
