"""Wrong arguments, recipes, and what is trained from scratch."""

import keras
import numpy as np
import pytest

from tfwsss import models, normalization, stack
from tfwsss.errors import ConfigError

TINY = {"width": 0.05}


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: models.build_classifier("resnet39", 3), ["resnet39", "mobilenet", "resnet38", "vgg16"]),
        (lambda: models.build_classifier("vgg16", 0), ["num_classes", "0"]),
        (lambda: models.build_classifier("vgg16", 3, output_stride=16), ["output_stride", "16", "8"]),
        (lambda: models.build_classifier("vgg16", 3, width=0), ["width", "0"]),
        (lambda: models.build_classifier("vgg16", 3, batch_norm="no"), ["batch_norm", "no", "frozen"]),
        (lambda: models.build_classifier("resnet38", 3, dropout="no"), ["dropout", "no", "spatial"]),
        (lambda: models.build_affinitynet("vgg16", features=450), ["features", "450", "448"]),
        (lambda: models.build_segmenter("vgg16", 3, head="fcn"), ["head", "fcn", "atrous"]),
        (lambda: models.normalization("vgg19"), ["vgg19", "vgg16"]),
        (lambda: models.cam_activation("vgg19"), ["vgg19", "vgg16"]),
        (lambda: models.build({"builder": "detector", "arguments": {}}), ["detector", "segmenter"]),
        (lambda: models.build({"builder": "classifier"}), ["arguments"]),
        (lambda: models.build({"builder": "classifier", "arguments": {"layers": 3}}), ["classifier", "layers"]),
        (lambda: models.model_spec(keras.Sequential(name="mine")), ["mine"]),
        (lambda: models.class_maps(models.build_affinitynet("vgg16", features=56, **TINY)), ["affinitynet"]),
    ],
)
def test_wrong_arguments_are_named(call, words):
    with pytest.raises(ConfigError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_what_is_trained_from_scratch():
    assert models.head_layers(models.build_classifier("vgg16", 3, **TINY)) == {"fc8"}
    # The reference trains the group normalisations at the backbone's learning rate.
    affinitynet = models.build_affinitynet("vgg16", features=56, **TINY)
    assert models.head_layers(affinitynet) == {"f8_3", "f8_4", "f8_5", "f9"}
    segmenter = models.build_segmenter("vgg16", 3, head="atrous", **TINY)
    assert models.head_layers(segmenter) == {"conv6a", "score"}
    deeplab = models.build_segmenter("vgg16", 3, head="deeplabv3plus", **TINY)
    heads = models.head_layers(deeplab)
    assert all(name.startswith(("aspp_", "decoder_", "score")) for name in heads)
    assert "aspp_0_norm" in heads


def test_default_heads():
    assert "conv6a" in models.head_layers(models.build_segmenter("resnet38", 3, **TINY))
    assert "aspp_0" in models.head_layers(models.build_segmenter("vgg16", 3, **TINY))


def test_preprocessing_belongs_to_the_backbone():
    assert models.normalization("resnet38") is normalization.TORCH
    assert models.normalization("vgg16").bgr and models.normalization("vgg16").scale == 1
    assert models.cam_activation("vgg16") == "sqrt"
    assert {models.cam_activation(name) for name in models.BACKBONES if name != "vgg16"} == {"relu"}


@pytest.mark.parametrize(
    "backbone, own", [("mobilenetv2", "mobilenet_v2"), ("mobilenet", "mobilenet"), ("resnet50", "resnet50")]
)
def test_normalization_is_that_of_keras_applications(backbone, own):
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.float32)
    expected = getattr(keras.applications, own).preprocess_input(image.copy())
    np.testing.assert_allclose(models.normalization(backbone)(image), expected, atol=1e-4)


@pytest.mark.parametrize("features", [448, 896])
def test_affinitynet_initialisers(features):
    keras.utils.set_random_seed(0)
    network = models.build_affinitynet("vgg16", features=features, width=0.125)
    shares = {"f8_3": 1, "f8_4": 2, "f8_5": 4}
    for name, share in shares.items():
        kernel = network.get_layer(name).kernel.numpy()
        assert kernel.shape[-1] == features * share // 7
        sigma = np.sqrt(2 / kernel.shape[2])
        assert abs(kernel.std() / sigma - 1) < 0.05
        assert np.abs(kernel).max() > 2.6 * sigma, "truncated"
    limit = 4 * np.sqrt(6 / (2 * features))
    kernel = np.abs(network.get_layer("f9").kernel.numpy())
    assert 0.99 * limit < kernel.max() <= 1.0001 * limit


@pytest.mark.parametrize(
    "dropout, expected",
    [
        ("spatial", {"b6_dropout_2b1": 0.3, "b6_dropout_2b2": 0.3, "b7_dropout_2b1": 0.5, "b7_dropout_2b2": 0.5}),
        ("elementwise", {"b6_dropout_2b2": 0.3, "b7_dropout_2b2": 0.5}),
    ],
)
def test_dropout_of_the_bottlenecks(dropout, expected):
    classifier = models.build_classifier("resnet38", 3, dropout=dropout, **TINY)
    kinds = {"spatial": stack.SpatialDropout2D, "elementwise": stack.Dropout}
    found = {layer.name: layer.rate for layer in classifier.layers if type(layer) is kinds[dropout]}
    found.pop("drop7", None)
    assert found == expected


@pytest.mark.parametrize("backbone", ["resnet38", "vgg16"])
def test_dropout_before_the_last_convolution(backbone):
    classifier = models.build_classifier(backbone, 3, **TINY)
    affinitynet = models.build_affinitynet(backbone, features=56, **TINY)
    kept = {layer.name: layer.rate for layer in affinitynet.layers if isinstance(layer, keras.layers.SpatialDropout2D)}
    found = {layer.name: layer.rate for layer in classifier.layers if isinstance(layer, keras.layers.SpatialDropout2D)}
    assert found == kept | {"drop7": 0.5}
    assert kept == {"drop6": 0.5} if backbone == "vgg16" else set(kept) == {f"b{n}_dropout_2b{m}" for n in "67" for m in "12"}


@pytest.mark.parametrize("backbone", ["resnet38", "resnet50v15"])
def test_epsilon_is_pytorchs(backbone):
    normalisations = (keras.layers.BatchNormalization,)
    classifier = models.build_classifier(backbone, 3, **TINY)
    assert {layer.epsilon for layer in classifier.layers if isinstance(layer, normalisations)} == {1e-5}


@pytest.mark.parametrize(
    ("backbone", "stride", "fixed"), [("resnet50v15", 8, {"layer1"}), ("resnet50irn", 16, {"layer1", "layer2"})]
)
def test_what_resnet50_keeps_fixed(backbone, stride, fixed):
    classifier = models.build_classifier(backbone, 3, output_stride=stride, batch_norm="train", **TINY)
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)  # in Keras 2 dropout has a weight, its seed
    layers = [layer for layer in classifier.layers if isinstance(layer, kinds)]
    frozen = {layer.name.split("_")[0] for layer in layers if not layer.trainable}
    assert frozen == {"conv1", "bn1"} | fixed
    trained = {layer.name.split("_")[0] for layer in layers if layer.trainable}
    assert trained == {"layer1", "layer2", "layer3", "layer4", "fc8"} - fixed
