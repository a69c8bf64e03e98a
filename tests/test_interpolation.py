"""Enlargement without TensorFlow against TensorFlow's."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.interpolation import enlarge_cells, enlarged_sum

sides = st.integers(1, 12)


def resized(maps, height, width) -> np.ndarray:
    """[K, h, w] -> [K, height, width] by TensorFlow."""
    return tf.transpose(tf.image.resize(maps.transpose(1, 2, 0), (height, width)), (2, 0, 1)).numpy()


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3), height=st.integers(1, 70), width=st.integers(1, 70), maps=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_a_sum_of_maps_of_all_sizes_is_tensorflows(sizes, height, width, maps, seed):
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal((maps, min(rows, height), min(columns, width))).astype(np.float32) for rows, columns in sizes]
    found = enlarged_sum(values, height, width)
    assert found.shape == (maps, height, width) and found.dtype == np.float32
    if maps:
        np.testing.assert_allclose(found, sum(resized(one, height, width) for one in values), atol=1e-5)


def test_maps_of_the_photos_size_are_left_alone():
    maps = np.random.default_rng(0).random((2, 5, 7), np.float32)
    maps.flags.writeable = False
    np.testing.assert_array_equal(enlarged_sum([maps], 5, 7), maps)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 70), width=st.integers(1, 70), stride=st.sampled_from([1, 4, 8]), seed=st.integers(0, 2**32 - 1))
def test_cells_are_enlarged_and_cropped(height, width, stride, seed):
    rows, columns = -(-height // stride), -(-width // stride)
    values = np.random.default_rng(seed).standard_normal((1, rows, columns)).astype(np.float32)
    whole = tf.image.resize(values[0][..., None], (rows * stride, columns * stride))[..., 0]
    np.testing.assert_allclose(enlarge_cells(values, stride, height, width)[0], whole[:height, :width], atol=1e-5)
