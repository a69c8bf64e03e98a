"""Batch normalisation in training against float64 arithmetic, outside it against Keras' layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss import stack
from tfwsss.models.layers import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, batch_norm

SHAPE = (3, 7, 5, 6)


def values(seed: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.4, 1.7, shape).astype(np.float32)


def built(**options):
    layer = stack.BatchNormalization(epsilon=1e-5, momentum=0.9, **options)
    layer.build(SHAPE)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("scale", "center"), [(True, True), (False, True), (True, False)])
def test_training_normalises_with_the_batch(scale, center):
    layer = built(scale=scale, center=center)
    gamma = layer.gamma.numpy().astype(np.float64) if scale else np.ones(6)
    beta = layer.beta.numpy().astype(np.float64) if center else np.zeros(6)
    before = layer.moving_mean.numpy().astype(np.float64), layer.moving_variance.numpy().astype(np.float64)
    x, weights = values(2), values(3)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(outputs * weights)
    gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])

    exact, upstream, axes = x.astype(np.float64), weights.astype(np.float64), (0, 1, 2)
    count, mean, variance = x[..., 0].size, exact.mean(axes), exact.var(axes)
    normalised = (exact - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(outputs, normalised * gamma + beta, atol=2e-5)
    # Of the running variance PyTorch and Keras 2 take the unbiased one of the batch.
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.9 * before[0] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 * before[1] + 0.1 * variance * count / (count - 1), rtol=1e-5)
    inner = upstream - upstream.mean(axes) - normalised * (upstream * normalised).mean(axes)
    expected = [inner * gamma / np.sqrt(variance + 1e-5)]
    expected += [(upstream * normalised).sum(axes)] if scale else []
    expected += [upstream.sum(axes)] if center else []
    assert len(gradients) == len(expected)
    for found, value in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_frozen_layer_uses_its_running_statistics(training):
    layer = built()
    layer.trainable = False
    before = layer.get_weights()
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in before)
    expected = (values(4) - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(values(4), training=training), expected, atol=2e-5)
    for found, kept in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, kept)


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_statistics_exact(name):
    layer = stack.BatchNormalization(epsilon=1e-5, momentum=0.0, dtype=stack.dtype_policy(name))
    x = tf.cast(values(5, (4, 16, 16, 6)), name.removeprefix("mixed_"))
    outputs = layer(x, training=True)
    assert outputs.dtype == x.dtype
    exact = tf.cast(x, tf.float64).numpy()
    np.testing.assert_allclose(layer.moving_mean.numpy(), exact.mean((0, 1, 2)), rtol=1e-5)
    expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), expected, atol=0.03)


def test_every_network_has_this_layer():
    inputs = keras.Input((None, None, 8))
    layer = keras.Model(inputs, batch_norm(inputs, "norm")).get_layer("norm")
    assert type(layer) is stack.BatchNormalization
    assert (layer.epsilon, layer.momentum) == (BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM)
