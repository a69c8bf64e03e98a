"""The project's own weight file."""

import errno
import json
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights import load_model, load_weights, named_variables, save_weights
from tfwsss.weights.array_file import save_arrays
from tfwsss.weights.native import read_safetensors

SPECS = [
    ("classifier", {"backbone": "resnet38", "width": 0.05, "num_classes": 3}),
    ("affinitynet", {"backbone": "vgg16", "width": 0.1, "features": 56}),
    ("segmenter", {"backbone": "mobilenetv2", "width": 0.35, "num_classes": 3}),
]


@pytest.mark.parametrize(("builder", "arguments"), SPECS)
def test_a_saved_model_comes_back_from_the_file_alone(tmp_path, fill_random, builder, arguments):
    path = tmp_path / "sub" / "weights.safetensors"
    model = fill_random(models.build({"builder": builder, "arguments": arguments}))
    save_weights(model, path)
    again = load_model(path)
    assert models.model_spec(again) == models.model_spec(model)
    image = np.random.default_rng(1).standard_normal((1, 40, 48, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(again(image)), np.asarray(model(image)))
    assert [p.name for p in path.parent.iterdir()] == ["weights.safetensors"]


def test_the_file_is_readable_without_keras(tmp_path, fill_random):
    model = fill_random(models.build_classifier("mobilenet", 4, width=0.25))
    path = tmp_path / "w.safetensors"
    save_weights(model, path)
    arrays = load_file(path)
    assert arrays.keys() == named_variables(model).keys()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["conv_dw_1/kernel"], model.get_layer("conv_dw_1").get_weights()[0])
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["format_version"], metadata["dtype"]) == ("tfwsss", "1", "float32")
    assert metadata["builder"] == "classifier"
    assert json.loads(metadata["arguments"])["num_classes"] == 4
    assert json.loads(metadata["head_layers"]) == ["fc8"]


def test_names_cover_all_weights_and_no_random_state():
    model = models.build_classifier("resnet38", 3, width=0.05)
    names = named_variables(model)
    assert len(names) == 192  # 43 convolutions, 37 normalisations of four variables, fc8
    assert {"conv1a/kernel", "b4_3_bn_branch2a/moving_variance", "b7_conv_branch2b2/kernel", "fc8/kernel"} <= set(names)
    assert not [name for name in names if "seed" in name]


def test_counters_are_no_weights(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Normalization(name="n"), keras.layers.Dense(2, name="d")])
    assert set(named_variables(model)) == {"n/mean", "n/variance", "d/kernel", "d/bias"}


def test_variables_of_a_model_inside_a_model_keep_their_layer_names(tiny):
    inputs = keras.Input((None, None, 3))
    outer = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="last")(tiny()(inputs)))
    assert list(named_variables(outer))[:2] == ["conv1a/kernel", "bn7/gamma"]
    assert "last/bias" in named_variables(outer)


def test_two_layers_of_one_name_are_refused(tiny):
    inputs = keras.Input((None, None, 3))
    twice = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="conv1a")(tiny()(inputs)))
    with pytest.raises(WeightsError, match="conv1a"):
        named_variables(twice)


def test_equal_weights_are_equal_bytes(tmp_path):
    """safetensors itself writes the metadata in a random order."""
    model = models.build_classifier("mobilenetv2", 3, width=0.35)
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_weights(model, file)
    assert len({file.read_bytes() for file in files}) == 1
    text = {"b": "\u00e9 \"\\ \n\t\x01\x7f \U0001f600 </", "a": "1"}  # what two ways to write JSON could differ in
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.ones(2, np.int8)}
    for file in files:
        save_arrays(arrays, file, text)
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(files[0], framework="numpy") as file:
        assert file.metadata() == text
    for name, array in load_file(files[0]).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_failed_save_leaves_the_old_file(tmp_path, tiny, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(tiny(), path)
    before = path.read_bytes()

    def fails(arrays, target, metadata):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("tfwsss.weights.native.save_arrays", fails)
    with pytest.raises(OSError, match="disk full"):
        save_weights(tiny(), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "somebody"}, "not a tfwsss weight file"),
        ({"format_version": "2"}, "format_version '2'"),
        ({"builder": "painter"}, "painter"),
        ({"arguments": "{"}, "recipe"),
        ({"arguments": '{"backbone": "vgg16", "num_classes": 3, "colour": 1}'}, "colour"),
        ({"arguments": '{"backbone": "vgg16", "num_classes": 3, "width": 0.2}'}, "conv1_1/kernel"),
        ({"arguments": '{"backbone": "vgg16", "num_classes": 5, "width": 0.1}'}, "fc8/kernel"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, change, message):
    path = tmp_path / "w.safetensors"
    save_weights(models.build_classifier("vgg16", 3, width=0.1), path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, **change})
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_model_without_recipe_is_saved_but_not_rebuilt(tmp_path, tiny, fill_random):
    path = tmp_path / "w.safetensors"
    model = fill_random(tiny())
    save_weights(model, path)
    with pytest.raises(WeightsError, match="weights only"):
        load_model(path)
    other = tiny()
    assert len(load_weights(other, path).loaded) == 6
    np.testing.assert_array_equal(other.get_layer("bn7").get_weights(), model.get_layer("bn7").get_weights())


def test_a_header_length_that_looks_like_a_pickle(tmp_path, tiny):
    path = tmp_path / "w.safetensors"
    save_weights(tiny(), path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    padded = (length // 256 + 1) * 256 + 0x80  # pickles begin with the byte 0x80
    path.write_bytes(padded.to_bytes(8, "little") + data[8 : 8 + length].ljust(padded) + data[8 + length :])
    assert load_weights(tiny(), path).format == "safetensors"


def test_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        load_model(tmp_path / "nowhere.safetensors")
    with pytest.raises(WeightsError, match="nowhere"):
        load_weights(models.build_classifier("vgg16", 3, width=0.1), tmp_path / "nowhere.safetensors")


def test_what_a_damaged_header_holds_is_not_told_whole(tmp_path):
    header = json.dumps({"__metadata__": {}, "kernel": "x" * 5000}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match="w.safetensors: not readable as safetensors: .*invalid type") as caught:
        read_safetensors(tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_full_disk_is_said_with_the_file(tmp_path):
    """A limit on a file's size fails in the same call."""
    program = f"""
import resource
from pathlib import Path
import numpy as np
from tfwsss.weights.array_file import save_arrays
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_arrays({{"kernel": np.zeros(10_000)}}, Path({str(tmp_path / "full.safetensors")!r}), {{}})
except OSError as error:
    print(error.filename, error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'full.safetensors'} File too large\n", done.stderr
