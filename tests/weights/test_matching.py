"""What may be absent, left over or of another shape."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights, named_variables, save_weights


def values(model):
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


@pytest.fixture
def classifier(fill_random):
    return fill_random(models.build_classifier("vgg16", 3, width=0.1))


@pytest.fixture
def saved(classifier, tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_weights(classifier, path)
    return path


def altered(saved, model, **changes):
    """A file with arrays replaced (None: removed)."""
    arrays = {**values(model), **{name.replace("__", "/"): array for name, array in changes.items()}}
    save_file({name: array for name, array in arrays.items() if array is not None}, saved)
    return saved


def test_a_classifier_starts_an_affinitynet(classifier, saved):
    model = models.build_affinitynet("vgg16", features=56, width=0.1)
    before = values(model)
    report = load_weights(model, saved)
    heads = {"f8_3", "f8_4", "f8_5", "gn8_3", "gn8_4", "gn8_5", "f9"}
    assert {name.split("/")[0] for name in report.missing} == heads
    assert report.unexpected == ("fc8/kernel",)
    assert len(report.loaded) == 30
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name] if name in report.missing else values(classifier)[name])
    text = report.render()
    assert "30 arrays loaded" in text and "fc8/kernel" in text and "gn8_4/gamma" in text


def test_the_head_of_a_saved_segmenter_is_ignored_by_a_classifier(tmp_path, fill_random):
    path = tmp_path / "s.safetensors"
    save_weights(fill_random(models.build_segmenter("vgg16", 3, width=0.1)), path)
    report = load_weights(models.build_classifier("vgg16", 3, width=0.1), path)
    assert report.missing == ("fc8/kernel",)
    assert "score/kernel" in report.unexpected


def test_a_head_for_other_classes_is_reported_and_keeps_its_values(saved):
    model = models.build_classifier("vgg16", 5, width=0.1)
    before = values(model)["fc8/kernel"]
    report = load_weights(model, saved)
    (wrong,) = report.wrong_shape
    assert (wrong.name, wrong.found[-1], wrong.expected[-1]) == ("fc8/kernel", 3, 5)
    assert "fc8/kernel" in report.render()
    np.testing.assert_array_equal(values(model)["fc8/kernel"], before)
    with pytest.raises(WeightsError, match="fc8/kernel"):
        load_weights(model, saved, allow_missing=())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"conv3_2__bias": None}, "conv3_2/bias"),
        ({"conv9_9__kernel": np.zeros((1, 1, 1, 1), np.float32)}, "conv9_9/kernel"),
        ({"conv3_2__bias": np.zeros(7, np.float32)}, "conv3_2/bias"),
    ],
)
def test_any_other_mismatch_is_an_error_and_changes_nothing(classifier, saved, fill_random, changes, named):
    altered(saved, classifier, **changes)
    model = fill_random(models.build_classifier("vgg16", 3, width=0.1), seed=5)
    before = values(model)
    with pytest.raises(WeightsError, match=named) as caught:
        load_weights(model, saved)
    assert str(saved) in str(caught.value)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])
    report = load_weights(model, saved, allow_mismatch=True)
    assert named in report.render()
    np.testing.assert_array_equal(values(model)["conv1_1/kernel"], values(classifier)["conv1_1/kernel"])


def test_named_layers_may_be_missing(classifier, saved):
    altered(saved, classifier, conv3_2__bias=None)
    model = models.build_classifier("vgg16", 3, width=0.1)
    assert load_weights(model, saved, allow_missing=("conv3_2",)).missing == ("conv3_2/bias",)


def test_the_wrong_backbone_is_an_error_even_when_mismatches_are_allowed(tmp_path, fill_random):
    path = tmp_path / "mobilenet.safetensors"
    save_weights(fill_random(models.build_classifier("mobilenet", 3, width=0.25)), path)
    model = models.build_segmenter("vgg16", 3, width=0.1)
    with pytest.raises(WeightsError, match="none of the"):
        load_weights(model, path, allow_mismatch=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(classifier, saved, value):
    altered(saved, classifier, conv1_2__bias=np.full_like(values(classifier)["conv1_2/bias"], value))
    model = models.build_classifier("vgg16", 3, width=0.1)
    with pytest.raises(WeightsError, match="conv1_2/bias"):
        load_weights(model, saved)


def test_half_precision_is_widened(classifier, saved):
    arrays = {name: array.astype(np.float16) for name, array in values(classifier).items()}
    save_file(arrays, saved)
    model = models.build_classifier("vgg16", 3, width=0.1)
    load_weights(model, saved)
    np.testing.assert_array_equal(values(model)["fc7/bias"], arrays["fc7/bias"].astype(np.float32))
