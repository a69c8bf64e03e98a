"""The shared layers against brute force and against PyTorch's resizing."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss.models import layers
from tfwsss.models.conversion import conversion

GOLDEN = Path(__file__).parents[1] / "golden"


def brute_force_convolution(x, kernel, stride, dilation):
    """Convolution with (k - 1) / 2 * dilation zeros on every side, float64, one image [h, w, c]."""
    size = kernel.shape[0]
    margin = size // 2 * dilation
    padded = np.pad(x.astype(np.float64), [(margin, margin), (margin, margin), (0, 0)])
    rows = range(0, x.shape[0], stride)
    columns = range(0, x.shape[1], stride)
    reach = dilation * (size - 1) + 1
    patches = [[padded[i : i + reach : dilation, j : j + reach : dilation] for j in columns] for i in rows]
    return np.einsum("ijabc,abcd->ijd", np.array(patches), kernel.astype(np.float64))


@pytest.mark.parametrize("height, width", [(8, 10), (7, 9), (1, 2)])
@pytest.mark.parametrize("kernel, stride, dilation", [(3, 1, 1), (3, 2, 1), (1, 2, 1), (3, 1, 2), (3, 1, 4)])
def test_convolution_pads_symmetrically(height, width, kernel, stride, dilation):
    inputs = keras.Input((None, None, 3))
    output = layers.conv2d(inputs, 4, kernel, stride=stride, dilation=dilation, name="c")
    model = keras.Model(inputs, output)
    x = np.random.default_rng(0).standard_normal((1, height, width, 3)).astype(np.float32)
    expected = brute_force_convolution(x[0], model.get_layer("c").kernel.numpy(), stride, dilation)
    np.testing.assert_allclose(model(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("height, width", [(8, 10), (7, 9)])
@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_is_that_of_symmetric_padding(height, width, stride):
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, layers.max_pool(inputs, stride, name="pool"))
    x = np.random.default_rng(1).random((1, height, width, 2)).astype(np.float32)
    for i, row in enumerate(model(x)[0].numpy()):
        for j, value in enumerate(row):
            top, left = max(stride * i - 1, 0), max(stride * j - 1, 0)
            window = x[0, top : stride * i + 2, left : stride * j + 2]
            np.testing.assert_array_equal(value, window.max(axis=(0, 1)))
    assert model(x).shape[1:3] == (-(-height // stride), -(-width // stride))


@pytest.mark.golden
@pytest.mark.parametrize("size", [(50, 71), (4, 5)])
def test_resize_is_torch_interpolate(size):
    golden = np.load(GOLDEN / "preprocess.npz")
    x = golden["up_in"].transpose(0, 2, 3, 1)
    found = layers.Resize()([x, tf.zeros([1, *size, 3])])
    expected = golden[f"up_out_{size[0]}x{size[1]}"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("side", range(1, 18))
def test_resize_to_a_stride_rounds_up(side):
    found = layers.Resize(8)([tf.zeros([2, 3, 3, 5]), tf.zeros([2, side, 2 * side, 1])])
    assert found.shape == (2, -(-side // 8), -(-2 * side // 8), 5)


def test_resize_knows_its_symbolic_shape():
    inputs, reference = keras.Input((3, 4, 5)), keras.Input((17, None, 2))
    assert tuple(layers.Resize(8)([inputs, reference]).shape) == (None, 3, None, 5)


@pytest.mark.parametrize("channels, width, expected", [(64, 1.0, 64), (64, 0.125, 8), (64, 0.01, 8), (256, 0.35, 88)])
def test_round_channels(channels, width, expected):
    assert layers.round_channels(channels, width) == expected


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_dilation_for_conversion_is_one_operation_of_the_same_value(kind):
    inputs = keras.Input((None, None, 4))
    make = {"dense": lambda: layers.conv2d(inputs, 5, 3, dilation=3, name="c")}
    make["depthwise"] = lambda: layers.depthwise_conv2d(inputs, 3, name="c")
    model = keras.Model(inputs, make[kind]())
    x = tf.constant(np.random.default_rng(2).standard_normal((1, 9, 11, 4)), tf.float32)
    expected = model(x)

    def operations():
        graph = (
            tf.function(lambda image: model(image)).get_concrete_function(tf.TensorSpec([None, None, None, 4])).graph
        )
        return {operation.type for operation in graph.get_operations()}

    assert "SpaceToBatchND" in operations()
    with conversion():
        assert "SpaceToBatchND" not in operations()
        np.testing.assert_allclose(model(x), expected, atol=1e-5)
    assert "SpaceToBatchND" in operations()


def test_group_normalisation_for_conversion_has_the_same_value():
    inputs = keras.Input((None, None, 24))
    layer = layers.GroupNormalization(3, epsilon=1e-5)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(3)
    layer.set_weights([rng.uniform(0.5, 2, 24), rng.normal(0, 1, 24)])
    x = rng.normal(5, 2, (2, 9, 11, 24)).astype(np.float32)
    grouped = x.astype(np.float64).reshape(2, 9 * 11, 3, 8)
    standard = (grouped - grouped.mean((1, 3), keepdims=True)) / np.sqrt(grouped.var((1, 3), keepdims=True) + 1e-5)
    gamma, beta = layer.get_weights()
    expected = standard.reshape(x.shape) * gamma + beta
    np.testing.assert_allclose(model(x), expected, atol=2e-5)
    for channels_last in (False, True):
        with conversion(channels_last):
            np.testing.assert_allclose(model(x), expected, atol=2e-5)
            np.testing.assert_allclose(model(np.full((1, 3, 5, 24), 7, np.float32)), np.broadcast_to(beta, (1, 3, 5, 24)), atol=2e-3)
