"""Group normalisation against float64 and against Keras' own layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss import stack
from tfwsss.models.group_norm import GroupNormalization


def arrays(seed, shape, offset):
    rng = np.random.default_rng(seed)
    return rng.normal(offset, 2.0, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32), rng


def value_and_gradients(layer, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    variables = [stack.tf_variable(layer.gamma), stack.tf_variable(layer.beta)]
    return [np.asarray(v) for v in (y, *tape.gradient(y, [x, *variables], output_gradients=tf.constant(upstream, y.dtype)))]


def built(kind, groups, x, rng):
    layer = kind(groups, epsilon=1e-5)
    layer.build(x.shape)
    layer.gamma.assign(rng.normal(1, 0.5, x.shape[-1]))
    layer.beta.assign(rng.normal(0, 0.5, x.shape[-1]))
    return layer


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    groups=st.integers(1, 4),
    per_group=st.sampled_from([2, 8]),
    offset=st.floats(-5, 5),
)
def test_values_and_gradients_are_those_of_keras(seed, size, groups, per_group, offset):
    x, upstream, rng = arrays(seed, (*size, groups * per_group), offset)
    ours = built(GroupNormalization, groups, x, rng)
    theirs = built(keras.layers.GroupNormalization, groups, x, rng)
    theirs.gamma.assign(ours.gamma)
    theirs.beta.assign(ours.beta)
    for found, expected in zip(value_and_gradients(ours, x, upstream), value_and_gradients(theirs, x, upstream), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_value_in_float64(offset):
    """Also where the mean is many deviations from zero, which is where the shorter formula loses digits."""
    x, _, rng = arrays(0, (2, 40, 30, 24), offset)
    layer = built(GroupNormalization, 3, x, rng)
    grouped = x.astype(np.float64).reshape(2, 40 * 30, 3, 8)
    standard = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-5)
    expected = standard.reshape(x.shape) * np.asarray(layer.gamma) + np.asarray(layer.beta)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5 if offset == 0 else 2e-3)


def test_unknown_sizes_and_low_precision():
    layer = GroupNormalization(2, epsilon=1e-5, dtype=stack.dtype_policy("mixed_bfloat16"))
    model = keras.Sequential([keras.Input((None, None, 16)), layer])
    x = np.random.default_rng(0).normal(3, 1, (1, 7, 5, 16)).astype(np.float32)
    low = model(x)
    assert low.dtype == tf.bfloat16
    full = keras.layers.GroupNormalization(2, epsilon=1e-5)(x)
    np.testing.assert_allclose(tf.cast(low, tf.float32), full, atol=0.03)
