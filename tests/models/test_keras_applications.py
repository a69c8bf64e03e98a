"""The dilated backbones against keras.applications itself, and against their own strided versions."""

import keras
import numpy as np
import pytest

from tfwsss.models.backbones import Options, build_trunk

APPLICATIONS = {
    "resnet50": keras.applications.ResNet50,
    "mobilenet": keras.applications.MobileNet,
    "mobilenetv2": keras.applications.MobileNetV2,
}
# The place in a dilated map that a strided layer would have kept, first conversion: the MobileNets' strided
# convolutions pad (0, 1) and so look at odd cells, ResNet50's are 1x1 and look at even ones.
PHASE = {"resnet50": 0, "mobilenet": 1, "mobilenetv2": 1}

every_application = pytest.mark.parametrize("backbone", sorted(APPLICATIONS))


def trunk_model(backbone, output_stride, width):
    trunk = build_trunk(backbone, Options("classifier", width=width, output_stride=output_stride))
    return keras.Model(trunk.inputs, trunk.deepest)


@every_application
def test_layers_and_weights_are_the_published_ones(backbone):
    options = {"alpha": 0.75} if backbone != "resnet50" else {}
    published = APPLICATIONS[backbone](weights=None, include_top=False, input_shape=(224, 224, 3), **options)
    ours = trunk_model(backbone, 8, options.get("alpha", 1.0))

    def shapes(model):
        return {layer.name: [tuple(v.shape) for v in layer.weights] for layer in model.layers if layer.weights}

    assert shapes(ours) == shapes(published)


@every_application
def test_undilated_network_is_that_of_keras(backbone, varied_weights):
    alpha = 0.25
    options = {"alpha": alpha} if backbone != "resnet50" else {}
    published = APPLICATIONS[backbone](weights=None, include_top=False, input_shape=(64, 96, 3), **options)
    ours = trunk_model(backbone, 32, options.get("alpha", 1.0))
    weights = varied_weights(published)
    published.set_weights(weights)
    ours.set_weights(weights)
    image = np.random.default_rng(1).standard_normal((2, 64, 96, 3)).astype(np.float32)
    expected = published(image).numpy()
    assert np.abs(expected).max() > 1e-3
    assert np.abs(ours(image) - expected).max() <= 1e-5 * np.abs(expected).max()


@every_application
def test_dilated_features_contain_the_strided_ones(backbone, varied_weights):
    width = 0.25 if backbone != "resnet50" else 0.125
    strided = trunk_model(backbone, 32, width)
    weights = varied_weights(strided)
    strided.set_weights(weights)
    image = np.random.default_rng(2).standard_normal((1, 96, 128, 3)).astype(np.float32)
    expected = strided(image).numpy()
    assert np.abs(expected).max() > 1e-3
    for output_stride in (16, 8):
        step = 32 // output_stride
        first = PHASE[backbone] * (step - 1)
        dilated = trunk_model(backbone, output_stride, width)
        dilated.set_weights(weights)
        found = dilated(image).numpy()[:, first::step, first::step]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
