"""The classifier for small objects: where the backbone ends, and the soft maximum in place of the mean."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss import models
from tfwsss.config.files import parse_config
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.models.layers import GlobalLogSumExpPooling2D
from tfwsss.weights import load_model, load_weights, save_weights

BACKBONES = ("efficientnetlite0", "mobilenetv2", "vgg16")
WIDTH = {"mobilenetv2": 0.35}


def build(backbone, **options):
    return models.build_classifier(backbone, 3, width=WIDTH.get(backbone, 0.125), output_stride=8, **options)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100.0), st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_the_soft_maximum_is_the_formula_and_lies_between_mean_and_maximum(seed, sharpness, size):
    maps = (np.random.default_rng(seed).standard_normal((2, *size, 3)) * 10).astype(np.float32)
    found = GlobalLogSumExpPooling2D(sharpness)(maps).numpy()
    wide = maps.astype(np.float64)
    expected = np.log(np.mean(np.exp(sharpness * (wide - wide.max((1, 2), keepdims=True))), axis=(1, 2))) / sharpness + wide.max((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3 / min(sharpness, 1))
    assert np.all(found >= wide.mean((1, 2)) - 1e-3 / min(sharpness, 1)) and np.all(found <= wide.max((1, 2)) + 1e-3 / min(sharpness, 1))


def test_its_gradient_is_each_cell_s_share():
    maps = tf.constant(np.random.default_rng(0).standard_normal((1, 4, 5, 2)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(GlobalLogSumExpPooling2D(4.0)(maps))
    share = tf.nn.softmax(4.0 * tf.reshape(maps, (20, 2)), axis=0)
    np.testing.assert_allclose(tf.reshape(tape.gradient(total, maps), (20, 2)), share, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_network_that_ends_early_is_the_beginning_of_the_whole_one(backbone):
    image = np.random.default_rng(0).standard_normal((1, 64, 80, 3)).astype(np.float32)
    whole = build(backbone)
    names = {layer.name for layer in whole.layers}
    sizes = []
    for depth in ("shallow", "middle", "deep"):
        model = build(backbone, depth=depth)
        assert {layer.name for layer in model.layers} <= names
        sizes.append(model.count_params())
        maps = models.class_maps(model)(image)
        assert maps.shape[3] == 3 and maps.shape[1:3] == (8, 10)
        np.testing.assert_allclose(model(image), tf.reduce_mean(maps, (1, 2)), rtol=1e-4, atol=1e-5)
    assert sizes == sorted(set(sizes)) and sizes[-1] == whole.count_params()


def test_the_logit_of_the_soft_maximum_is_of_the_class_maps():
    image = np.random.default_rng(0).standard_normal((2, 64, 80, 3)).astype(np.float32)
    model = build("efficientnetlite0", depth="middle", pooling="log_sum_exp", sharpness=2.0)
    maps = models.class_maps(model)(image).numpy().astype(np.float64)
    np.testing.assert_allclose(model(image), np.log(np.exp(2 * maps).mean((1, 2))) / 2, rtol=1e-4, atol=1e-5)
    assert models.build(models.model_spec(model)).count_params() == model.count_params()


def test_weights_of_the_whole_network_start_one_that_ends_early(tmp_path):
    whole, part = build("efficientnetlite0"), build("efficientnetlite0", depth="shallow")
    save_weights(whole, tmp_path / "whole.safetensors")
    report = load_weights(part, tmp_path / "whole.safetensors")
    assert not report.missing and {name.split("/")[0] for name in report.unexpected} <= models.layers_left_out(part)
    kernel = "blocks_3_project_conv"
    np.testing.assert_array_equal(part.get_layer(kernel).kernel, whole.get_layer(kernel).kernel)
    save_weights(part, tmp_path / "part.safetensors")
    assert models.model_spec(load_model(tmp_path / "part.safetensors"))["arguments"]["depth"] == "shallow"
    with pytest.raises(WeightsError, match="not in the file"):
        load_weights(whole, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match="not in the model"):
        load_weights(build("efficientnetlite0", depth="shallow", pooling="log_sum_exp"), _renamed(whole, tmp_path))


def _renamed(model, folder):
    np.savez(folder / "odd.npz", **{f"other/{index}": np.zeros(2, np.float32) for index in range(2)}, **{"conv_stem/kernel": np.asarray(model.get_layer("conv_stem").kernel)})
    return folder / "odd.npz"


def test_networks_that_start_from_the_classifier_need_the_whole_of_it():
    data = {"data": {"format": "scenes"}, "classifier": {"depth": "middle"}, "affinitynet": {"model": {"weights": "classifier"}}}
    with pytest.raises(ConfigError, match=r"affinitynet.model.weights: the classifier ends at its middle map"):
        parse_config(data)


@pytest.mark.parametrize("wrong", [{"depth": "stage4"}, {"pooling": "max"}])
def test_wrong_options(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}: found '{wrong[name]}', expected one of"):
        build("efficientnetlite0", **wrong)
