"""LayerCAM against its definition, with gradients by finite differences in float64's place, and what must hold for every photo."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss.errors import ConfigError
from tfwsss.models import BACKBONES, build_classifier, evidence, layer_cams


def lively(**options) -> keras.Model:
    """A classifier with random weights whose maps do not fade away from layer to layer."""
    keras.utils.set_random_seed(0)
    model = build_classifier("mobilenet", 3, width=0.25, output_stride=16, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(tf.fill(layer.moving_variance.shape, 0.05))
    return model


@pytest.fixture(scope="module")
def classifier():
    return lively()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, 32, 48, 3)).astype(np.float32)


def _resized(maps, size):
    return np.asarray(tf.image.resize(maps[..., None], size))[..., 0]


def test_one_depth_is_the_paper_s_equation(images):
    """Mobilenet has no shortcuts, so that its class maps are a function of an earlier map alone, which can be nudged."""
    classifier = lively(depth="middle")
    early, scores = (np.asarray(one) for one in evidence(classifier)(images[:1]))
    tag = int(scores.max((0, 1, 2)).argmax())  # random weights may leave the others without a map
    name = next(layer.name for layer in classifier.layers if layer.output is evidence(classifier).outputs[0])
    tail = keras.Model(classifier.get_layer(name).output, classifier.get_layer("class_maps").output)
    nudges = np.eye(early.size, dtype=np.float32).reshape(-1, *early.shape[1:]) * 2e-3  # one number of the map for each
    sides = [tail.predict(early + sign * nudges, batch_size=256, verbose=0).astype(np.float64)[..., tag].sum((1, 2)) for sign in (1, -1)]
    slope = ((sides[0] - sides[1]) / 4e-3).reshape(early.shape)
    depth = np.maximum((np.maximum(slope, 0) * early).sum(-1), 0)
    own = np.maximum(scores[..., tag], 0)
    expected = np.sqrt(depth / depth.max() * _resized(own / own.max(), depth.shape[1:]))
    expected *= own.max() / expected.max()
    found = np.asarray(layer_cams(classifier, tf.nn.relu)(tf.constant(images[:1]), tf.constant([tag])))
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=5e-3 * expected.max())


def test_photos_of_a_batch_do_not_see_each_other(classifier, images):
    maps = layer_cams(classifier, tf.nn.relu)
    together = np.asarray(maps(tf.constant(images), tf.constant([0, 2, 1])))
    alone = np.concatenate([np.asarray(maps(tf.constant(images[i : i + 1]), tf.constant([tag]))) for i, tag in enumerate((0, 2, 1))])
    np.testing.assert_allclose(together, alone, atol=1e-5 * alone.max())


@pytest.mark.parametrize("activation", ["relu", "sqrt"])
def test_the_class_map_gives_the_maximum(classifier, images, activation):
    own = np.maximum(np.asarray(evidence(classifier)(images)[-1])[..., 2], 0).max((1, 2))
    found = np.asarray(layer_cams(classifier, tf.nn.relu if activation == "relu" else lambda maps: tf.sqrt(tf.nn.relu(maps)))(tf.constant(images), tf.constant([2] * 3))).max((1, 2))
    np.testing.assert_allclose(found, np.where(own > 0, own if activation == "relu" else np.sqrt(own), 0), rtol=1e-4)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_has_earlier_maps(backbone):
    classifier = build_classifier(backbone, 2, width=1.0 if backbone == "resnet50irn" else 0.25, output_stride=max(BACKBONES[backbone].output_strides))
    maps = evidence(classifier)(np.zeros((1, 64, 96, 3), np.float32))
    assert len(maps) == 3 and maps[-1].shape[-1] == 2
    assert maps[0].shape[1] >= maps[1].shape[1] >= maps[2].shape[1]


def test_a_shallow_classifier_is_refused():
    classifier = build_classifier("mobilenet", 2, width=0.25, output_stride=16, depth="shallow")
    with pytest.raises(ConfigError, match="layer_cam: a classifier of depth 'shallow' has no earlier map"):
        layer_cams(classifier, tf.nn.relu)
