"""The readers of foreign files, and a small good file for each."""

from __future__ import annotations

import io
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np
from pydantic import TypeAdapter

from tfwsss.config import Data
from tfwsss.data import load_split
from tfwsss.data.cls_labels import read_cls_labels
from tfwsss.data.dataset import Sample
from tfwsss.errors import DataError, WeightsError
from tfwsss.exchange import Photos, read_corrected
from tfwsss.weights import load_model, load_weights, save_weights

FIXTURES = Path(__file__).parents[1] / "data/fixtures"


class Reader(NamedTuple):
    """One way to read a file. `read(path)` may raise `error` only."""

    read: Callable[[Path], object]
    error: type[Exception]
    sample: bytes


def tiny() -> keras.Model:
    """A network of a convolution and its head, named as in the published files."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv1a")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(2, 1, use_bias=False, name="fc8")(x))


def readers(folder: Path) -> dict[str, Reader]:
    """Every format by name; samples are made in `folder`."""
    from tfwsss import models

    model = tiny()
    recipe = models.build({"builder": "classifier", "arguments": {"backbone": "mobilenet", "width": 0.25, "num_classes": 1}})
    save_weights(recipe, folder / "recipe.safetensors")
    save_weights(model, folder / "plain.safetensors")
    model.save_weights(str(folder / "keras.weights.h5"))
    arrays = {variable: np.zeros(shape, "f4") for variable, shape in (("conv1a/kernel", (3, 3, 3, 8)), ("fc8/kernel", (1, 1, 8, 2)))}
    np.savez(folder / "numpy.npz", **arrays)
    with h5py.File(folder / "old.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1a"]
        file.create_group("conv1a").attrs["weight_names"] = [b"conv1a/kernel:0"]
        file["conv1a/conv1a/kernel:0"] = arrays["conv1a/kernel"]
    weights = {name: (folder / name).read_bytes() for name in ("plain.safetensors", "keras.weights.h5", "old.h5", "numpy.npz")}
    weights |= {"mxnet.params": _mxnet(), "caffe.caffemodel": _caffe(), "torch.pth": _torch()}
    found = {name: Reader(lambda path: load_weights(model, path), WeightsError, sample) for name, sample in weights.items()}
    found["recipe.safetensors"] = Reader(load_model, WeightsError, (folder / "recipe.safetensors").read_bytes())
    labels = io.BytesIO()
    np.save(labels, {"2007_000032": np.ones(20, np.float32), "2007_000033": np.zeros(20, np.float32)}, allow_pickle=True)
    found["cls_labels.npy"] = Reader(read_cls_labels, DataError, labels.getvalue())
    return found | _annotations(folder)


def _annotations(folder: Path) -> dict[str, Reader]:
    """Files of annotation tools, from tests/data/fixtures, beside the photos that they name."""
    shutil.copytree(FIXTURES / "fiftyone/several/data", folder / "data")

    def reader(file: str, **section) -> Reader:
        def read(path: Path):
            place = {"tfrecord": "train_files", "folder": "train_csv"}.get(section["format"], "train_file")
            data = TypeAdapter(Data).validate_python({"root": folder, place: path.name, **section})
            return load_split(data, "train", folder / "work")

        return Reader(read, DataError, (FIXTURES / file).read_bytes())

    def corrected(file: str) -> Reader:
        photos = [Sample(name, FIXTURES / f"exchange/images/{name}.png", ()) for name in ("one", "two", "three", "four")]

        def read(path: Path):
            read_corrected(path, Photos(photos, 1.0), ("square", "disc"), lambda found: None)

        return Reader(read, DataError, (FIXTURES / file).read_bytes())

    return {
        "corrected.xml": corrected("exchange/ours/cvat.xml"),
        "corrected_brushes.json": corrected("exchange/tools/labelstudio.json"),
        "corrected_instances.json": corrected("exchange/tools/coco.json"),
        "annotations.xml": reader("cvat/default.xml", format="cvat"),
        "label_studio.json": reader("label_studio/export.json", format="label_studio"),
        "fiftyone.json": reader("fiftyone/several/labels.json", format="fiftyone"),
        "train.tfrecord": reader("tfrecord/train.tfrecord", format="tfrecord"),
        "packed.tfrecord": reader("tfrecord/packed.tfrecord", format="tfrecord"),
        "metadata.jsonl": reader("hf_metadata/jsonl/metadata.jsonl", format="folder", image_column="file_name", tags_column="labels"),
        "metadata.csv": reader("hf_metadata/csv/metadata.csv", format="folder", image_column="file_name", tags_column="labels", separator="list"),
    }


def _mxnet() -> bytes:
    head = struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<IiI", 0xF993FAC9, 0, 4) + struct.pack("<4q", 8, 3, 3, 3) + struct.pack("<iii", 1, 0, 0)
    name = b"arg:conv1a_weight"
    return head + bytes(8 * 27 * 4) + struct.pack("<QQ", 1, len(name)) + name


def _caffe() -> bytes:
    def field(number: int, content: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(content)) + content

    blob = field(7, field(1, bytes([8, 3, 3, 3]))) + field(5, bytes(8 * 27 * 4))
    return field(100, field(1, b"conv1a") + field(7, blob))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def torch_zip(pickled: bytes, *storages: bytes) -> bytes:
    """A checkpoint in PyTorch's zip format."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for number, storage in enumerate(storages):
            archive.writestr(f"a/data/{number}", storage)
    return file.getvalue()


def _torch() -> bytes:
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\xd8tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x08K\x03K\x03K\x03t(K\x1bK\x09K\x03K\x01t\x89ccollections\nOrderedDict\n)RtR"
    return torch_zip(b"\x80\x02}X\x0d\x00\x00\x00conv1a.weight" + tensor + b"s.", bytes(216 * 4))


def pickled_label_file(pickled: bytes) -> bytes:
    """A `cls_labels.npy` around a pickle."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * ((64 - (11 + len(header)) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled


def pickle_of(value) -> bytes:
    """A pickle of protocol 2."""
    return pickle.dumps(value, 2)
