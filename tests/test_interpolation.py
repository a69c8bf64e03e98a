"""Enlargement in numpy against TensorFlow's."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.interpolation import enlarge, enlarge_cells

sides = st.integers(1, 12)


@settings(deadline=None, max_examples=60)
@given(rows=sides, columns=sides, height=st.integers(1, 70), width=st.integers(1, 70), maps=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_enlarging_is_tensorflows(rows, columns, height, width, maps, seed):
    values = np.random.default_rng(seed).standard_normal((maps, rows, columns)).astype(np.float32)
    height, width = max(height, rows), max(width, columns)
    expected = tf.transpose(tf.image.resize(values.transpose(1, 2, 0), (height, width)), (2, 0, 1))
    np.testing.assert_allclose(enlarge(values, height, width), expected, atol=1e-5)


def test_maps_of_the_photos_size_are_left_alone():
    maps = np.random.default_rng(0).random((2, 5, 7), np.float32)
    assert enlarge(maps, 5, 7) is maps


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 70), width=st.integers(1, 70), stride=st.sampled_from([1, 4, 8]), seed=st.integers(0, 2**32 - 1))
def test_cells_are_enlarged_and_cropped(height, width, stride, seed):
    rows, columns = -(-height // stride), -(-width // stride)
    values = np.random.default_rng(seed).standard_normal((1, rows, columns)).astype(np.float32)
    whole = tf.image.resize(values[0][..., None], (rows * stride, columns * stride))[..., 0]
    np.testing.assert_allclose(enlarge_cells(values, stride, height, width)[0], whole[:height, :width], atol=1e-5)
