"""PyTorch checkpoints (`.pth`), the zip format and the one before PyTorch 1.6, read without PyTorch.

Zip: `NAME/data.pkl` describes the tensors, `NAME/data/KEY` holds the numbers of a storage. Before: five runs of bytes,
namely the pickles of a magic number, of a version, of the system's properties and of the tensors' description, the
pickled list of keys, and for each key an int64 count and the numbers.
"""

import math

import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import Cursor, map_file
from tfwsss.weights.naming import from_torch
from tfwsss.weights.torch_pickle import Storage, Tensor, interpret
from tfwsss.weights.zipped import open_zip, read_entry

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
WRAPPERS = ("state_dict", "model")


def _numbers(cursor: Cursor, storage: Storage) -> np.ndarray:
    if storage.dtype == "bfloat16":  # the upper half of a float32
        return (cursor.array("u2", (storage.count,)).astype(np.uint32) << 16).view(np.float32)
    return cursor.array(storage.dtype, (storage.count,))


def _view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """A tensor's elements; checked to lie inside the storage, and to be no more than it has."""
    count = math.prod(tensor.shape)
    if count == 0:
        return np.zeros(0, numbers.dtype).reshape(tensor.shape)
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(numbers) or count > len(numbers):
        raise WeightsError(f"damaged PyTorch file: a tensor {list(tensor.shape)} in a storage of {len(numbers)}")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


def _state_dict(value) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may hold its state dict beside other entries."""
    for wrapper in WRAPPERS:
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            value = value[wrapper]
    if not isinstance(value, dict):
        raise WeightsError(f"a PyTorch file that holds a {type(value).__name__}, expected a state dict")
    tensors = {key: entry for key, entry in value.items() if isinstance(key, str) and isinstance(entry, Tensor)}
    if not tensors:
        raise WeightsError("a PyTorch file without tensors at its top level or under 'state_dict' or 'model'")
    return tensors


def _read_zip(path) -> dict[str, np.ndarray]:
    with open_zip(path) as archive:
        (root,) = {name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")}
        if f"{root}byteorder" in archive.namelist() and bytes(read_entry(archive, f"{root}byteorder")) != b"little":
            raise WeightsError("a PyTorch file in big-endian byte order; save it on a little-endian machine")
        value, _ = interpret(Cursor(read_entry(archive, f"{root}data.pkl")))
        tensors = _state_dict(value)
        storages = {}
        for tensor in tensors.values():
            if tensor.storage not in storages:
                cursor = Cursor(read_entry(archive, f"{root}data/{tensor.storage.key}"))
                storages[tensor.storage] = _numbers(cursor, tensor.storage)
        return {name: _view(tensor, storages[tensor.storage]) for name, tensor in tensors.items()}


def _read_legacy(path) -> dict[str, np.ndarray]:
    cursor = Cursor(map_file(path))
    if interpret(cursor)[0] != MAGIC:
        raise WeightsError("a pickle, but not one of PyTorch; pickles are not read")
    (version, _), (system, _) = interpret(cursor), interpret(cursor)
    if version != VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        found = repr(version) if isinstance(version, int) else f"a {type(version).__name__}"
        raise WeightsError(f"a PyTorch file of version {found}, expected {VERSION} and little-endian byte order")
    value, storages = interpret(cursor)
    tensors = _state_dict(value)
    keys, _ = interpret(cursor)
    if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys) or sorted(map(str, keys)) != sorted(storages):
        raise WeightsError("damaged PyTorch file: the storages listed are not those of the tensors")
    numbers = {}
    for key in map(str, keys):
        count = cursor.number("q")
        if count != storages[key].count:
            raise WeightsError(f"damaged PyTorch file: storage of {count} numbers, expected {storages[key].count}")
        numbers[key] = _numbers(cursor, storages[key])
    return {name: _view(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def read_zip(path, model) -> tuple[dict, tuple]:
    """Arrays of a zip checkpoint as {"layer/variable": array in the Keras layout}, and no foreign heads of its own."""
    return from_torch(_read_zip(path)), ()


def read_legacy(path, model) -> tuple[dict, tuple]:
    """The same of a checkpoint in the older format."""
    return from_torch(_read_legacy(path)), ()
