"""Filling a model from a weight file of any supported format."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

from tfwsss.errors import ConfigError, WeightsError
from tfwsss.models import layers_left_out
from tfwsss.weights import caffe, hdf5, mxnet, numpy_archive, pytorch
from tfwsss.weights.matching import LoadReport, fill, scratch_layers
from tfwsss.weights.naming import from_keras_vgg16, from_torch, of_keras_vgg16
from tfwsss.weights.native import FORMAT, read_safetensors
from tfwsss.weights.variables import named_variables
from tfwsss.weights.zipped import open_zip

LONGEST_REASON = 300  # characters; some libraries quote what they could not read
# (arrays as {"layer/variable": array}, names of layers that only the file need have)
Contents = tuple[dict, Collection[str]]


def _read_safetensors(path, model) -> Contents:
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT and _of_torch(arrays):
        return from_torch(arrays), ()
    heads = json.loads(metadata.get("head_layers", "[]"))
    if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
        raise WeightsError("the metadata's head_layers is not a list of names")
    return arrays, heads


def _of_torch(arrays: dict) -> bool:
    """Whether names are PyTorch's ("layer1.0.conv1.weight"), not ours ("layer/variable")."""
    return any(name.endswith((".weight", ".running_mean")) for name in arrays) and not any("/" in name for name in arrays)


def _read_hdf5(path, model) -> Contents:
    arrays = hdf5.read_file(path, model, scratch_layers(model))
    foreign = of_keras_vgg16(arrays) and not of_keras_vgg16(named_variables(model))
    return from_keras_vgg16(arrays) if foreign else arrays, ()


def _zip_format(path) -> tuple[str, Callable]:
    with open_zip(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        return "PyTorch", pytorch.read_zip
    if any(name.endswith(".npy") for name in names):
        return "numpy", numpy_archive.read
    if "model.weights.h5" in names:
        raise WeightsError("a whole Keras model; save its weights alone: model.save_weights('NAME.weights.h5')")
    raise WeightsError("a zip archive that holds neither a PyTorch state dict nor numpy arrays")


def detect(path) -> tuple[str, Callable[..., Contents]]:
    """(name of the format, its reader), by the file's first bytes.

    Raises:
        WeightsError: the file is empty, or a zip archive of something else.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(16)
    if not head:
        raise WeightsError("the file is empty")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5", _read_hdf5
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if mxnet.sniff(head):
        return "MXNet", mxnet.read
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors", _read_safetensors
    if head[:1] == b"\x80":  # how pickles of protocol 2 and later begin
        return "PyTorch", pytorch.read_legacy
    return "Caffe", caffe.read  # a protobuf has no mark of its own


def _left_out(model) -> frozenset[str]:
    try:
        return layers_left_out(model)
    except ConfigError:  # not one of this package's models
        return frozenset()


def load_weights(model, path, allow_mismatch: bool = False, allow_missing: Collection[str] | None = None) -> LoadReport:
    """Fill `model` from a weight file; the format is recognised by content, not by the file's name.

    Formats: safetensors, HDF5 of Keras 2 and 3, numpy `.npz`, MXNet `.params`, Caffe `.caffemodel`, PyTorch `.pth`.

    Args:
        allow_mismatch: load what fits and only report the rest.
        allow_missing: names of layers that the file may lack or have in another shape. By default the layers that
            the model trains from scratch (`tfwsss.models.head_layers`); pass () to demand every variable.

    Output layers that only the file has (1000 ImageNet classes, another stage's head), and the layers behind the map at which the
    model's `depth` ends it, are reported and ignored.

    Raises:
        WeightsError: the file is unreadable or does not fit; the model is unchanged then.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such weight file")
    heads = scratch_layers(model) if allow_missing is None else frozenset(allow_missing)
    name = "weight"
    try:
        name, read = detect(path)
        arrays, foreign_heads = read(path, model)
    except WeightsError as error:
        unsure = " (or no weight file at all)" if name == "Caffe" else ""
        raise WeightsError(f"{path}: unreadable as {name} file{unsure}: {error}") from error
    except Exception as error:  # whatever a library says about a damaged file
        raise WeightsError(f"{path}: damaged {name} file: {type(error).__name__}: {str(error)[:LONGEST_REASON]}") from error
    return fill(
        model,
        arrays,
        source=path,
        format=name,
        heads=heads,
        foreign_heads={*foreign_heads, *_left_out(model)},
        allow_mismatch=allow_mismatch,
    )
