"""The deployed computation against its definition written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss.errors import ExportError
from tfwsss.export import Inference
from tfwsss.normalization import CAFFE_VGG16, TORCH


def bilinear(maps, height, width):
    """Half-pixel bilinear resizing of [B, h, w, C] in float64, one axis after the other."""
    for axis, size in ((1, height), (2, width)):
        source = (np.arange(size) + 0.5) * maps.shape[axis] / size - 0.5
        low = np.floor(source).astype(int)
        weight = (source - low).reshape([-1 if a == axis else 1 for a in range(4)])
        first, second = (np.take(maps, np.clip(low + step, 0, maps.shape[axis] - 1), axis) for step in (0, 1))
        maps = first * (1 - weight) + second * weight
    return maps


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("normalization", [TORCH, CAFFE_VGG16])
def test_scores_are_the_softmax_of_resized_logits(tiny_model, photo, normalization):
    images = np.stack([photo(37, 51, 0), photo(37, 51, 1)])
    inference = Inference(tiny_model, normalization)
    logits = bilinear(tiny_model(normalization(images)).numpy().astype(np.float64), 37, 51)
    scores = inference.scores(tf.constant(images)).numpy()
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, softmax(logits), atol=5e-5)
    mask = inference.mask(tf.constant(images)).numpy()
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, logits.argmax(-1))
    assert len(np.unique(mask)) > 1


def test_variants_average_scores_over_scales_and_mirror_images(tiny_model, photo):
    images = photo(33, 45)[None]
    scales = (0.5, 1.0, 1.5)
    total = 0.0
    for mirrored in (False, True):
        source = images[:, :, ::-1] if mirrored else images
        for scale in scales:
            height, width = round(33 * scale), round(45 * scale)
            scaled = bilinear(source.astype(np.float64), height, width)
            logits = tiny_model(TORCH(scaled)).numpy().astype(np.float64)
            scores = bilinear(softmax(bilinear(logits, height, width)), 33, 45)
            total = total + (scores[:, :, ::-1] if mirrored else scores)
    inference = Inference(tiny_model, TORCH, scales=scales, flip=True)
    np.testing.assert_allclose(inference.scores(tf.constant(images)).numpy(), total / 6, atol=2e-5)
    np.testing.assert_array_equal(inference.mask(tf.constant(images)).numpy(), inference.scores(tf.constant(images)).numpy().argmax(-1))


def test_a_network_that_upsamples_itself_is_not_resized_again(tiny_model, photo):
    class Up(keras.layers.Layer):
        def call(self, x):
            maps, image = x
            return tf.image.resize(maps, tf.shape(image)[1:3])

    upsampled = keras.Model(tiny_model.inputs, Up()([tiny_model.output, tiny_model.inputs[0]]))
    images = tf.constant(photo(29, 43)[None])
    function = tf.function(Inference(upsampled, TORCH).scores).get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    assert sum(op.type == "ResizeBilinear" for op in function.graph.get_operations()) == 0  # it is inside the network's own function
    np.testing.assert_allclose(Inference(upsampled, TORCH).scores(images), Inference(tiny_model, TORCH).scores(images), atol=1e-6)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,)])
def test_scales_must_be_positive(tiny_model, scales):
    with pytest.raises(ExportError, match="scales"):
        Inference(tiny_model, TORCH, scales=scales)


def test_the_model_must_give_maps_of_few_enough_labels():
    inputs = keras.Input((None, None, 3))
    pooled = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    many = keras.Model(inputs, keras.layers.Conv2D(256, 1)(inputs))
    for model in (pooled, many):
        with pytest.raises(ExportError, match="model output"):
            Inference(model, TORCH)
