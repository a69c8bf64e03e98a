"""Parity of full-size networks with PyTorch: ResNet38 and VGG16 with the authors' code (outputs, loss and gradients),
ResNet50 v1.5 with torchvision."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfwsss import affinity, models, randomwalk

GOLDEN = Path(__file__).parents[1] / "golden"
LAST_MAP = {"resnet38": "conv6", "vgg16": "conv5fc"}
pytestmark = [pytest.mark.golden, pytest.mark.slow, pytest.mark.usefixtures("release_models")]


def assert_close(found, expected, tolerance=1e-4):
    """Largest error relative to the largest expected magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def assert_statistics(found, golden, name):
    """Per-channel mean, standard deviation, maximum and two slices of a [2, h, w, c] map."""
    found = found.numpy().astype(np.float64)
    expected_range = np.abs(golden[f"{name}_max_c"]).max()
    for statistic in ("mean", "std", "max"):
        value = getattr(found, statistic)(axis=(0, 1, 2))
        assert np.abs(value - golden[f"{name}_{statistic}_c"]).max() <= 1e-4 * expected_range, statistic
    channels_first = found.transpose(0, 3, 1, 2)
    assert np.abs(channels_first[0, :8] - golden[f"{name}_slice0"]).max() <= 1e-4 * expected_range
    assert np.abs(channels_first[1, -4:] - golden[f"{name}_slice1"]).max() <= 1e-4 * expected_range


def assert_gradients(model, gradients, golden, variable_of):
    """Same trainable variables as the reference (frozen layers have no gradient), same norms, same sums."""
    by_variable = {id(v): g.numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)}
    keys = [str(key) for key in golden["grad_keys"]]
    assert {id(variable_of(model, key)) for key in keys} == set(by_variable)
    for key, l2, total in zip(keys, golden["grad_l2"], golden["grad_sum"], strict=True):
        gradient = by_variable[id(variable_of(model, key))].astype(np.float64)
        assert abs(np.linalg.norm(gradient) - l2) <= 5e-4 * l2, key
        # A single ReLU that flips on a rounding error shifts the sum by up to sqrt(n) times the change of the norm.
        assert abs(gradient.sum() - total) <= 3e-4 * np.sqrt(gradient.size) * l2, key


@pytest.mark.parametrize("backbone", ["resnet38", "vgg16"])
def test_classifier(backbone, reference):
    golden = np.load(GOLDEN / f"{backbone}_cls_forward.npz")
    classifier = models.build_classifier(backbone, 20)
    reference.load_weights(classifier, golden)

    maps_of = models.class_maps(classifier)
    for size in ((64, 64), (61, 75)):
        name = "64" if size == (64, 64) else "61x75"
        cam = tf.nn.relu(maps_of(reference.input(*size)))
        if models.cam_activation(backbone) == "sqrt":
            cam = tf.sqrt(cam)
        assert_close(tf.transpose(cam, [0, 3, 1, 2]), golden[f"cam_{name}"])
        assert_close(classifier(reference.input(*size)), golden[f"logits_{name}"])

    feature_names = ["conv4", "conv5", LAST_MAP[backbone]]
    features = keras.Model(classifier.input, [classifier.get_layer(name).output for name in feature_names])
    for name, value in zip(feature_names, features(reference.input(64, 64)), strict=True):
        assert_statistics(value, golden, f"{name}_64")
        batch, channels, height, width = golden[f"{name}_shape"]
        assert value.shape == (batch, height, width, channels)

    with tf.GradientTape() as tape:
        logits = classifier(reference.input(64, 64))
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(golden["target"], logits))
    assert_close(loss, golden["loss_64"], 1e-5)
    gradients = tape.gradient(loss, classifier.trainable_variables)
    assert_gradients(classifier, gradients, golden, reference.variable_of)


@pytest.mark.parametrize("backbone", ["resnet38", "vgg16"])
def test_affinitynet(backbone, reference):
    golden = np.load(GOLDEN / f"{backbone}_aff_forward.npz")
    network = models.build_affinitynet(backbone)
    reference.load_weights(network, golden)
    image = reference.input(96, 104)

    convolutions = ["f8_3", "f8_4", "f8_5", "f9"]
    partial = keras.Model(network.input, [network.get_layer(name).output for name in convolutions])
    for name, value in zip(convolutions, partial(image), strict=True):
        assert_statistics(value, golden, f"{name}_96x104")

    pairs = golden["pair_label"].reshape(2, 34, 8, 5)
    labels = affinity.AffinityLabels(*(tf.constant(pairs == kind, tf.float32) for kind in range(3)))
    with tf.GradientTape() as tape:
        features = network(image)
        value = affinity.pair_affinity(features)
        loss = affinity.affinity_loss(value, labels).total
    assert_close(tf.transpose(features, [0, 3, 1, 2]), golden["f9_elu_96x104"])
    assert_close(tf.reshape(value, [2, 34, 40]), golden["aff_96x104"])
    graph = randomwalk._graph(12, 13, 5, "faithful")
    dense = tf.scatter_nd(graph.indices, randomwalk._weights(value[0], graph, 1.0, check=True), [156, 156])
    assert_close(dense, golden["aff_dense_96x104_img0"])
    assert_close(loss, golden["loss"], 1e-5)
    gradients = tape.gradient(loss, network.trainable_variables)
    assert_gradients(network, gradients, golden, reference.variable_of)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_resnet50_of_torchvision(output_stride, reference):
    golden = np.load(GOLDEN / "resnet50v15_forward.npz")
    classifier = models.build_classifier("resnet50v15", 20, output_stride=output_stride)
    reference.load_weights(classifier, golden)
    ends = {"layer2": "layer2_3_out", "layer3": "layer3_5_out", "layer4": "layer4_2_out"}
    names = {name: f"{name}_os{output_stride}" for name in ends}
    kept = {name: key for name, key in names.items() if f"{key}_mean_c" in golden}
    assert "layer4" in kept
    features = keras.Model(classifier.input, {key: classifier.get_layer(ends[name]).output for name, key in kept.items()})
    for key, value in features(reference.input(61, 75)).items():
        assert_statistics(value, golden, key)
