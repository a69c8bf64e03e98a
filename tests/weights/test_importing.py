"""Importing a published file into our own or Keras' format, and ImageNet weights by name."""

from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from tfwsss import models
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.weights import imagenet, load_model, load_weights, named_variables
from tfwsss.weights.imagenet import load_imagenet
from tfwsss.weights.importing import import_weights
from tfwsss_pipelines.cli import app


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


@pytest.fixture(scope="module")
def keras_vgg16(fill_random):
    """VGG16 of keras.applications at an eighth of its width: the layers' names, kinds and order are its own."""
    full = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    layers = [keras.Input((224, 224, 3))]
    for layer in full.layers[1:]:
        config = layer.get_config()
        if "filters" in config:
            config["filters"] //= 8
        layers.append(type(layer).from_config(config))
    dense = [keras.layers.Dense(512, "relu", name="fc1"), keras.layers.Dense(512, "relu", name="fc2")]
    return fill_random(keras.Sequential([*layers, keras.layers.Flatten(), *dense, keras.layers.Dense(10, name="predictions")]))


def assert_vgg16_thinned_out(model, keras_vgg16):
    ours, theirs = named_variables(model), named_variables(keras_vgg16)
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for number in range(1, count + 1):
            for variable in ("kernel", "bias"):
                expected = theirs[f"block{block}_conv{number}/{variable}"].numpy()
                np.testing.assert_array_equal(ours[f"conv{block}_{number}/{variable}"].numpy(), expected)
    # A dense layer on a flattened map is a 7x7 convolution that looks at one place.
    x = np.random.default_rng(0).standard_normal((1, 7, 7, 64)).astype(np.float32)
    kernel = np.zeros((7, 7, 64, 128), np.float32)
    kernel[::3, ::3] = ours["fc6/kernel"].numpy()
    seen = np.zeros_like(x)
    seen[:, ::3, ::3] = x[:, ::3, ::3]
    expected = (seen.reshape(1, -1) @ theirs["fc1/kernel"].numpy())[:, ::4]
    np.testing.assert_allclose(np.einsum("nhwc,hwco->no", x, kernel), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(ours["fc6/bias"].numpy(), theirs["fc1/bias"].numpy()[::4])
    np.testing.assert_array_equal(ours["fc7/kernel"].numpy()[0, 0], theirs["fc2/kernel"].numpy()[::4, ::4])
    np.testing.assert_array_equal(ours["fc7/bias"].numpy(), theirs["fc2/bias"].numpy()[::4])


def test_imagenet_of_vgg16_thins_out_the_dense_layers(monkeypatch, keras_vgg16):
    asked = []
    monkeypatch.setattr(keras.applications, "VGG16", lambda **arguments: asked.append(arguments) or keras_vgg16)
    monkeypatch.setattr(imagenet, "APPLICATIONS", {"vgg16": replace(imagenet.APPLICATIONS["vgg16"], widths=(0.125,))})
    model = models.build_classifier("vgg16", 3, width=0.125)
    report = load_imagenet(model, "vgg16")
    assert asked == [{"weights": "imagenet", "include_top": True, "input_shape": (224, 224, 3)}]
    assert report.missing == ("fc8/kernel",) and set(report.unexpected) == {"predictions/kernel", "predictions/bias"}
    assert_vgg16_thinned_out(model, keras_vgg16)


@pytest.mark.parametrize("name", ["vgg16.h5", "vgg16.weights.h5", "numbered.weights.h5"])
def test_a_local_file_of_keras_vgg16(tmp_path, keras_vgg16, name):
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        keras_vgg16.save_weights(str(path))
    else:
        keras_vgg16.save(str(path))
    if name.startswith("numbered"):  # Keras before 3.9 writes no names
        with h5py.File(path, "r+") as file:
            file.visititems(lambda name, node: node.attrs.clear())
    model = models.build_classifier("vgg16", 3, width=0.125)
    assert load_weights(model, path).missing == ("fc8/kernel",)
    assert_vgg16_thinned_out(model, keras_vgg16)
    again = keras.models.clone_model(keras_vgg16)  # in the network they are from nothing is thinned out
    assert load_weights(again, path).missing == ()
    np.testing.assert_array_equal(again.get_weights()[-3], keras_vgg16.get_weights()[-3])
