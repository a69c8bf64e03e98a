"""Class activation maps that several depths of a classifier agree on (LayerCAM: Jiang et al., IEEE TIP 2021).

A class map has the cells of the last map and fires on the most telling part, in blobs as wide as the network sees. At an
earlier depth, activations weighted by their own positive gradients are finer, and cover more of an object.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from tfwsss.models.classifier import evidence

EPSILON = 1e-12  # added to a maximum before dividing; gradients of a sum over places may be small


def layer_cams(classifier: keras.Model, rectify: Callable) -> Callable:
    """The maps of a classifier as a function of TensorFlow operations.

    At each depth with activations A and class score y, the sum of the class's map over all places, the map is
    sum_k relu(dy / dA_k) * A_k (the paper's equations 5 and 6). The paper takes the largest of the depths' maps; here it is their
    geometric mean with the rectified class map, each divided by its maximum: what every depth sees. Its maximum is set to that of the class
    map, so that scales are added with the weights that they have without it.

    Args:
        classifier: of `tfwsss.models.build_classifier`.
        rectify: raw class maps -> maps >= 0 of the same shape, see `tfwsss.cam.rectified`.

    Returns:
        Function (normalised images float32 [B, H, W, 3], int32 [B]: a class for each image) -> float32 [B, h, w] >= 0 with the
        cells of the earliest map.

    Raises:
        ConfigError: the classifier has no earlier map (its depth is "shallow").
    """
    network = evidence(classifier)

    def maps(images, classes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            *activations, scores = network(images, training=False)
            own = tf.gather(scores, classes[:, tf.newaxis], axis=3, batch_dims=1)
            total = tf.reduce_sum(own)
        gradients = tape.gradient(total, activations)
        depths = [tf.nn.relu(tf.reduce_sum(tf.nn.relu(slope) * one, -1, keepdims=True)) for slope, one in zip(gradients, activations, strict=True)]
        own = rectify(own)
        size, product = tf.shape(depths[0])[1:3], 1.0
        for one in [*depths, own]:
            product *= tf.image.resize(one / (_largest(one) + EPSILON), size)
        together = product ** (1 / (len(depths) + 1))
        return (together * _largest(own) / (_largest(together) + EPSILON))[..., 0]

    return maps


def _largest(maps):
    return tf.reduce_max(maps, axis=(1, 2), keepdims=True)
