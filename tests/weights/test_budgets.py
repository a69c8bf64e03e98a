"""Small files that ask for all memory or time: refused by a message, whichever structure they hide it in."""

import json
import struct
import time

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.fuzz.readers import pickled_label_file, torch_zip
from tfwsss import models
from tfwsss.data.cls_labels import read_cls_labels
from tfwsss.errors import ConfigError, DataError, WeightsError
from tfwsss.models.parameter_budget import parameter_budget
from tfwsss.weights import load_model, load_weights, named_variables, save_weights

RECIPE = {"backbone": "mobilenet", "width": 0.25, "num_classes": 3}


def nested(depth: int, leaf: bytes = b"K\x01") -> bytes:
    """A tuple that holds the one before twice, `depth` times."""
    return leaf + b"".join(b"q" + bytes([slot]) + b"h" + bytes([slot]) + b"\x86" for slot in range(depth))


def lists(depth: int) -> bytes:
    """Lists, each empty when it is put into the next one twice, and filled afterwards."""
    made = b"".join(b"]q" + bytes([slot]) for slot in range(depth))
    return made + b"".join(b"h" + bytes([slot + 1]) + b"(h" + bytes([slot]) + b"h" + bytes([slot]) + b"e" for slot in range(depth - 1))


@pytest.fixture(scope="module")
def model():
    return models.build({"builder": "classifier", "arguments": RECIPE})


@pytest.fixture(autouse=True)
def soon():
    started = time.process_time()
    yield
    assert time.process_time() - started < 60  # without a budget they take for ever


PICKLES = {
    "as name": b"\x80\x04" + nested(60) + b"\x8c\x01x\x93.",
    "as key": b"\x80\x02}" + nested(60) + b"K\x01s.",
    "as the whole": b"\x80\x02" + nested(60) + b".",
    "as storage": b"\x80\x02" + nested(60) + b"Q.",
    "as size": b"\x80\x02ctorch\nSize\n" + nested(60) + b"\x85R.",
    "lists": b"\x80\x02" + lists(60) + b".",
    "operations": b"\x80\x02" + b"]" * 1_000_000 + b".",
    "marks": b"\x80\x02" + b"(" * 3_000_000 + b".",
}


@pytest.mark.parametrize("name", PICKLES)
def test_checkpoints(model, tmp_path, name):
    for data in (torch_zip(PICKLES[name]), PICKLES[name]):
        (tmp_path / "hostile.pth").write_bytes(data)
        with pytest.raises(WeightsError) as caught:
            load_weights(model, tmp_path / "hostile.pth")
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", PICKLES)
def test_label_files(tmp_path, name):
    (tmp_path / "hostile.npy").write_bytes(pickled_label_file(PICKLES[name]))
    with pytest.raises(DataError) as caught:
        read_cls_labels(tmp_path / "hostile.npy")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x07.", "memo number 134217727"),
        (b"\x80\x05\x96" + struct.pack("<Q", 5 * 2**30) + b".", "bytearray8"),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", "long4"),
        (b"\x80\x02}" + b"]" * 2_000_000 + b".", "lists, tuples and dicts"),
    ],
)
def test_what_the_unpickler_would_make_room_for(tmp_path, pickled, words):
    (tmp_path / "hostile.npy").write_bytes(pickled_label_file(pickled))
    with pytest.raises(DataError, match=words):
        read_cls_labels(tmp_path / "hostile.npy")


def test_labels_of_many_photos_are_read(tmp_path):
    tags = {f"2007_{number:06d}": np.eye(20, dtype=np.float32)[number % 20] for number in range(3000)}
    for protocol_file in ("tags.npy",):
        np.save(tmp_path / protocol_file, tags, allow_pickle=True)
        found = read_cls_labels(tmp_path / protocol_file)
        assert len(found) == 3000 and found["2007_000021"].tolist() == [number == 1 for number in range(20)]


@pytest.mark.parametrize("changes", [{"width": 1e6}, {"width": 60}, {"num_classes": 2_000_000_000}, {"width": float("inf")}, {"width": float("nan")}, {"width": "x"}, {"backbone": ["mobilenet"] * 3}])
def test_recipes_ask_for_no_more_than_the_file_holds(model, tmp_path, changes):
    metadata = {"format": "tfwsss", "format_version": "1", "builder": "classifier", "arguments": json.dumps({**RECIPE, **changes}), "head_layers": "[]"}
    save_file({name: variable.numpy() for name, variable in named_variables(model).items()}, tmp_path / "w.safetensors", metadata)
    with pytest.raises(WeightsError, match="recipe"):
        load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize("arguments", ["[" * 100_000, "[]", "null", "{"])
def test_recipes_that_are_none(model, tmp_path, arguments):
    save_file({"a/b": np.zeros(3, "f4")}, tmp_path / "w.safetensors", {"format": "tfwsss", "format_version": "1", "builder": "classifier", "arguments": arguments})
    with pytest.raises(WeightsError):
        load_model(tmp_path / "w.safetensors")


def test_a_recipe_that_fits_is_built(model, tmp_path):
    save_weights(model, tmp_path / "w.safetensors")
    assert load_model(tmp_path / "w.safetensors").count_params() == model.count_params()


def test_the_budget_is_exact_and_ends():
    def dense():
        return keras.Sequential([keras.Input((10,)), keras.layers.Dense(7), keras.layers.BatchNormalization()])

    parameters = dense().count_params()
    with parameter_budget(parameters):
        dense()
    with pytest.raises(ConfigError, match=f"more than the {parameters - 1} parameters"), parameter_budget(parameters - 1):
        dense()
    dense()


def test_pytorch_names_in_safetensors(tmp_path):
    """What hubs ship instead of .pth: the same arrays, transposed as those are."""
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(8, 3, use_bias=False, name="conv1a")(inputs))
    kernel = np.arange(216, dtype=np.float16).reshape(8, 3, 3, 3)
    save_file({"conv1a.weight": kernel}, tmp_path / "w.safetensors", {"format": "pt"})
    load_weights(network, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(network.get_layer("conv1a").get_weights()[0], kernel.transpose(2, 3, 1, 0))
