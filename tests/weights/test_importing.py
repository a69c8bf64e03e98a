"""Importing a published file into our own or Keras' format, and ImageNet weights by name."""

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from tfwsss import models
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.weights import load_model, load_weights, named_variables
from tfwsss.weights.imagenet import load_imagenet
from tfwsss.weights.importing import import_weights


@pytest.fixture(scope="module")
def classifier(fill_random):
    return fill_random(models.build_classifier("vgg16", 3, width=0.1))


@pytest.fixture(scope="module")
def published(classifier, write, tmp_path_factory):
    layers = {}
    for name, variable in named_variables(classifier).items():
        value = variable.numpy()
        if not name.startswith("fc8"):
            layers.setdefault(name.split("/")[0], []).append(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    path = tmp_path_factory.mktemp("published") / "vgg.caffemodel"
    path.write_bytes(write.caffe(layers))
    return path


@pytest.mark.parametrize("name", ["out.safetensors", "out.weights.h5"])
def test_import_writes_a_file_that_loads(classifier, published, tmp_path, name):
    output = tmp_path / "new" / name
    report = import_weights(published, "classifier", "vgg16", 3, output, width=0.1)
    assert len(report.loaded) == 30
    assert [path.name for path in output.parent.iterdir()] == [name]
    if name.endswith(".safetensors"):
        model = load_model(output)
        assert models.model_spec(model)["arguments"]["num_classes"] == 3
    else:
        model = models.build_classifier("vgg16", 3, width=0.1)
        model.load_weights(str(output))
        assert load_weights(models.build_classifier("vgg16", 3, width=0.1), output).missing == ()
    for name, variable in named_variables(classifier).items():
        if name != "fc8/kernel":
            np.testing.assert_array_equal(named_variables(model)[name].numpy(), variable.numpy())


@pytest.mark.parametrize("name", ["out.safetensors", "out.weights.h5"])
def test_the_command(classifier, published, tmp_path, name):
    output = tmp_path / name
    arguments = ["import-weights", str(published), "--model", "vgg16-classifier", "--classes", "3", "-o", str(output)]
    wide = CliRunner().invoke(app, arguments)
    assert isinstance(wide.exception, WeightsError) and "conv1_1/kernel" in str(wide.exception) and not output.exists()
    narrow = CliRunner().invoke(app, [*arguments, "--width", "0.1"])
    assert narrow.exit_code == 0, narrow.output
    assert "30 arrays loaded" in narrow.output and "fc8/kernel" in narrow.output
    model = models.build_classifier("vgg16", 3, width=0.1)
    assert load_weights(model, output).missing == ()
    for name, variable in named_variables(classifier).items():
        if name != "fc8/kernel":
            np.testing.assert_array_equal(named_variables(model)[name].numpy(), variable.numpy())


def test_import_for_an_affinitynet_needs_no_classes(published, tmp_path):
    import_weights(published, "affinitynet", "vgg16", 3, tmp_path / "a.safetensors", width=0.1)
    assert models.model_spec(load_model(tmp_path / "a.safetensors"))["builder"] == "affinitynet"


def test_import_refuses(published, tmp_path):
    with pytest.raises(WeightsError, match=r"\.pth"):
        import_weights(published, "classifier", "vgg16", 3, tmp_path / "out.pth")
    with pytest.raises(ConfigError, match="painter"):
        import_weights(published, "painter", "vgg16", 3, tmp_path / "out.safetensors")
    with pytest.raises(WeightsError, match="does not fit|none of the"):
        import_weights(published, "classifier", "mobilenet", 3, tmp_path / "out.safetensors", width=0.25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("resnet38", "ilsvrc-cls_rna-a1_cls1000_ep-0001.params"),
        ("vgg16", "vgg16_20M.caffemodel"),
        ("resnet50v15", "resnet50-0676ba61.pth"),
    ],
)
def test_imagenet_names_the_file_to_obtain(backbone, file):
    with pytest.raises(WeightsError, match=file):
        load_imagenet(models.build_classifier(backbone, 3, width=0.05), backbone)


def test_imagenet_knows_the_published_widths():
    with pytest.raises(WeightsError, match="0.3 .*0.35, 0.5, 0.75, 1, 1.3, 1.4"):
        load_imagenet(models.build_classifier("mobilenetv2", 3, width=0.3), "mobilenetv2")


@pytest.mark.parametrize(
    ("width", "file"), [(0.25, "mobilenet_2_5_224_tf_no_top.h5"), (1.0, "mobilenet_1_0_224_tf_no_top.h5")]
)
def test_a_failed_download_names_the_file(monkeypatch, width, file):
    asked = []

    def offline(fname, origin, **kwargs):
        asked.append(fname)
        raise Exception(f"URL fetch failure on {origin}")

    module = __import__(keras.applications.MobileNet.__module__, fromlist=["x"])
    target = getattr(module, "file_utils", None) or module.data_utils  # the name in Keras 2
    monkeypatch.setattr(target, "get_file", offline)
    with pytest.raises(WeightsError, match=f"{file} failed .*URL fetch failure"):
        load_imagenet(models.build_classifier("mobilenet", 3, width=width), "mobilenet")
    assert asked == [file]  # the name in the message is the one Keras asks for


def test_downloaded_weights_fill_the_backbone(monkeypatch, fill_random):
    real = keras.applications.MobileNet
    source = fill_random(real(weights=None, include_top=False, alpha=0.25, input_shape=(224, 224, 3)))

    def downloaded(**arguments):
        assert arguments["weights"] == "imagenet" and arguments["alpha"] == 0.25 and not arguments["include_top"]
        return source

    model = models.build_affinitynet("mobilenet", features=56, width=0.25)
    monkeypatch.setattr(keras.applications, "MobileNet", downloaded)
    report = load_imagenet(model, "mobilenet")
    assert len(report.loaded) == 135
    assert {name.split("/")[0] for name in report.missing} == {"f8_3", "f8_4", "f8_5", "gn8_3", "gn8_4", "gn8_5", "f9"}
    np.testing.assert_array_equal(
        model.get_layer("conv_pw_13").get_weights()[0], source.get_layer("conv_pw_13").get_weights()[0]
    )
