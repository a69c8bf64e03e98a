"""One battery for every backbone and network: shapes at odd sizes, gradients, frozen parts, recipe, low precision."""

import functools
import json
from typing import get_args, get_type_hints

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss import models
from tfwsss.config import Model
from tfwsss.config.networks import MILLIONS_OF_PARAMETERS

SMALL = {name: {"mobilenet": 0.25, "mobilenetv2": 0.25}.get(name, 0.125) for name in models.BACKBONES}
FINEST = {name: models.BACKBONES[name].output_strides[0] for name in SMALL}
NETWORKS = ["classifier", "affinitynet", "atrous", "deeplabv3plus", "lraspp"]
CLASSES = 3
SIZE = (45, 67)

COARSER = [(name, stride) for name in sorted(SMALL) for stride in models.BACKBONES[name].output_strides[1:]]

every_backbone = pytest.mark.parametrize("backbone", sorted(models.BACKBONES))


@pytest.fixture(scope="module", autouse=True)
def _published_networks_are_built_once():
    """Half the time of building a network of keras.applications goes into the published one that it is cloned from."""
    patch = pytest.MonkeyPatch()
    for name in ("ResNet50", "MobileNet", "MobileNetV2"):
        build = getattr(keras.applications, name)

        @functools.cache
        def built(policy, arguments, build=build):
            return build(**dict(arguments))

        patch.setattr(keras.applications, name, lambda built=built, **arguments: built(keras.mixed_precision.global_policy().name, tuple(arguments.items())))
    yield
    patch.undo()


def build(network, backbone, **options):
    options = {"width": SMALL[backbone], "output_stride": FINEST[backbone], **options}
    if network == "classifier":
        return models.build_classifier(backbone, CLASSES, **options)
    if network == "affinitynet":
        return models.build_affinitynet(backbone, features=56, **options)
    return models.build_segmenter(backbone, CLASSES, head=network, **options)


def expected_shape(network, height, width):
    return {"classifier": (CLASSES,), "affinitynet": (-(-height // 8), -(-width // 8), 56)}.get(
        network, (height, width, CLASSES + 1)
    )


@pytest.mark.slow
@every_backbone
def test_the_number_of_parameters_is_known_to_the_estimate_of_disk_space(backbone):
    model = models.build_segmenter(backbone, 20, output_stride=FINEST[backbone])
    assert round(model.count_params() / 1e6, 1) == MILLIONS_OF_PARAMETERS[backbone]


def image(height, width, batch=2):
    return np.random.default_rng(0).standard_normal((batch, height, width, 3)).astype(np.float32)


def batch_norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_the_registry_is_covered():
    assert set(models.BACKBONES) == set(get_args(get_type_hints(Model)["backbone"])), "the configuration's choice"


@pytest.mark.parametrize(
    "network, backbone",
    [
        *((network, name) for network in ("classifier", "affinitynet", "deeplabv3plus", "lraspp") for name in sorted(SMALL)),
        *(("atrous", name) for name in ("resnet38", "mobilenet")),
    ],
)
def test_trains(network, backbone):
    """Gradients reach exactly what is not frozen; running statistics move exactly there."""
    keras.utils.set_random_seed(0)
    model = build(network, backbone, batch_norm="train")
    before = {layer.name: layer.moving_mean.numpy() for layer in batch_norms(model)}
    with tf.GradientTape() as tape:
        output = model(image(*SIZE), training=True)
        loss = tf.reduce_mean(tf.sin(output + tf.range(2.0)[(...,) + (None,) * (output.shape.rank - 1)]))
    assert output.shape == (2, *expected_shape(network, *SIZE))
    assert output.dtype == tf.float32
    for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True):
        assert gradient is not None, variable.name
        gradient = gradient.numpy()
        assert np.isfinite(gradient).all(), variable.name
        if not variable.name.endswith("bias"):  # a bias in front of a batch normalisation has no effect
            assert np.abs(gradient).max() > 0, variable.name

    frozen = {layer.name for layer in model.layers if not layer.trainable}
    assert any(name.startswith("conv") or name.startswith("Conv") for name in frozen)
    for layer in batch_norms(model):
        moved = np.abs(layer.moving_mean.numpy() - before[layer.name]).max() > 0
        assert moved == (layer.name not in frozen), layer.name

    heads = models.head_layers(model)
    assert heads and heads.isdisjoint(frozen)


@pytest.mark.parametrize(
    "network, backbone",
    [*(("classifier", name) for name in sorted(SMALL)), *((name, "vgg16") for name in NETWORKS[1:])],
)
def test_recipe_rebuilds_the_network(network, backbone):
    model = build(network, backbone, batch_norm="train", dropout="elementwise")
    spec = json.loads(json.dumps(models.model_spec(model)))
    again = models.build(spec)
    assert [v.shape for v in again.weights] == [v.shape for v in model.weights]
    assert [layer.name for layer in again.layers if not layer.trainable] == [
        layer.name for layer in model.layers if not layer.trainable
    ]


@every_backbone
def test_frozen_batch_norm_stays_as_it_is(backbone):
    model = build("deeplabv3plus", backbone, batch_norm="frozen", freeze=False)
    trainable = {id(variable) for variable in model.trainable_variables}
    assert not [layer.name for layer in batch_norms(model) for v in layer.weights if id(v) in trainable]
    before = [variable.numpy() for layer in batch_norms(model) for variable in layer.weights]
    model(image(*SIZE), training=True)
    after = [variable.numpy() for layer in batch_norms(model) for variable in layer.weights]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert all(layer.trainable for layer in convolutions)


@pytest.mark.parametrize("backbone, stride", COARSER)
def test_coarser_output_strides(backbone, stride):
    """The finest is the other tests'."""
    network = build("affinitynet", backbone, output_stride=stride)
    assert network(image(*SIZE)).shape == (2, *expected_shape("affinitynet", *SIZE))
    segmenter = build("atrous", backbone, output_stride=stride, upsample=False)
    height, width = (-(-side // stride) for side in SIZE)
    assert segmenter(image(*SIZE)).shape == (2, height, width, CLASSES + 1)


@pytest.mark.parametrize(
    "network, backbone",
    [
        ("affinitynet", "mobilenetv2"),
        ("deeplabv3plus", "mobilenetv2"),
        *(("classifier", name) for name in sorted(SMALL)),
    ],
)
def test_low_precision(network, backbone, varied_weights):
    """bfloat16 inside, float32 outside, and close to the float32 network with the same weights."""
    reference = build(network, backbone)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(network, backbone)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    weights = varied_weights(reference)
    reference.set_weights(weights)
    model.set_weights(weights)
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert convolution.compute_dtype == "bfloat16" and convolution.kernel.dtype == "float32"
    found, expected = model(image(*SIZE)), reference(image(*SIZE)).numpy()
    assert found.dtype == tf.float32
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error <= 0.15


@pytest.mark.parametrize("backbone", ["vgg16", "mobilenetv2"])
def test_class_maps_average_to_the_logits(backbone):
    classifier = build("classifier", backbone)
    maps = models.class_maps(classifier)(image(*SIZE))
    logits = classifier(image(*SIZE))
    np.testing.assert_allclose(tf.reduce_mean(maps, axis=(1, 2)), logits, atol=1e-5 * np.abs(logits).max() + 1e-12)
    assert min(maps.numpy().min(), -1e-30) < 0, "raw maps are not rectified"


def test_logits_layer_is_what_gets_upsampled():
    segmenter = build("deeplabv3plus", "mobilenetv2", output_stride=16, batch_norm="train")
    inner = keras.Model(segmenter.input, segmenter.get_layer("logits").output)
    logits = inner(image(*SIZE))
    assert logits.shape == (2, 12, 17, CLASSES + 1)  # stride 4
    expected = tf.image.resize(logits, SIZE, method="bilinear")
    np.testing.assert_allclose(segmenter(image(*SIZE)), expected, atol=1e-6)


def test_keras_can_rebuild_the_graph_with_the_package_layers():
    segmenter = build("deeplabv3plus", "mobilenetv2")
    again = keras.Model.from_config(segmenter.get_config())
    again.set_weights(segmenter.get_weights())
    np.testing.assert_allclose(again(image(*SIZE)), segmenter(image(*SIZE)), atol=1e-6)
