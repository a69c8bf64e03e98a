"""PSA's `cls_labels.npy`: image tags in a pickled dict, read without letting the pickle do anything.

A .npy file of dtype object holds a pickle, and unpickling runs whatever the file says. Here each of the few names
that NumPy writes into such a file is answered by a stand-in of ours; any other name is refused.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular

# What NumPy and Python 2 and 3 write into such a file; containers are what the unpickler makes an object of its own for.
_CONTAINERS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "LIST", "EMPTY_LIST", "DICT", "EMPTY_DICT"}
_OPERATIONS = _CONTAINERS | {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
}
_PUT, _GET = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}
_CONTAINER_BYTES = 64
_FREE_BYTES = 16 * 2**20
_NUMBERS = {"f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}


class _Array:
    """Stands for a numpy.ndarray under reconstruction."""

    __slots__ = ("value",)

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        if dtype.code == "O8":
            self.value = data[0] if shape == () and isinstance(data, list) and len(data) == 1 else None
        else:
            # Python 2 wrote the bytes as text.
            data = data.encode("latin1") if isinstance(data, str) else data
            self.value = np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")


class _DType:
    """Stands for a numpy.dtype: plain numbers and objects only."""

    __slots__ = ("code", "order")

    def __init__(self, code):
        if code not in _NUMBERS | {"O8"}:
            raise pickle.UnpicklingError(f"arrays of type {code!r}")
        self.code, self.order = code, "|"

    def __setstate__(self, state):
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"byte order {state[1]!r}")
        self.order = state[1]

    def numpy(self):
        return np.dtype(self.order + self.code)


def _reconstruct(*_):
    return _Array()


def _dtype(code, *_):
    return _DType(code)


def _scalar(dtype, data):
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.numpy())[0].item()


def _bytes(text, encoding):
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoding {encoding!r}")
    return text.encode("latin1")


class _Sealed:
    """Calls a function; has no attributes that a pickle could set."""

    __slots__ = ("_function",)
    _function: Callable

    def __init__(self, function=None):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name, value):
        raise pickle.UnpicklingError(f"sets the attribute {name}")

    def __call__(self, *args):
        return self._function(*args)


_ALLOWED = {
    ("numpy", "ndarray"): _Sealed(),
    ("numpy", "dtype"): _Sealed(_dtype),
    ("_codecs", "encode"): _Sealed(_bytes),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_core, "_reconstruct"] = _Sealed(_reconstruct)
    _ALLOWED[_core, "scalar"] = _Sealed(_scalar)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which tags do not need")
        return _ALLOWED[module, name]


def read_cls_labels(path) -> dict[str, np.ndarray]:
    """Read the tags of a data set from an .npy file with a dict.

    Keys are ids: "2007_000032", or the number 2007000032 as the IRN reference code writes it.

    Returns:
        Multi-hot [C] bool for each id.

    Raises:
        DataError: the file is missing, is no such file, or its pickle contains anything but a dict of number arrays
            of one length.
    """
    path = Path(path)
    try:
        require_regular(path)
        with path.open("rb") as file:
            shape, _, dtype = _header(file)
            if shape != () or dtype != np.dtype(object):
                raise DataError(f"{path}: an array {dtype} {list(shape)}, expected one pickled dict of id -> tags")
            pickled = file.read()
        _screen(pickled)
        content = _Unpickler(io.BytesIO(pickled), encoding="latin1").load()
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: refused: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly every type
        raise DataError(f"{path}: not a .npy file with a dict of tags: {error}") from None
    tags = getattr(content, "value", None)
    if not isinstance(tags, dict) or not tags:
        raise DataError(f"{path}: expected a dict of id -> tags, found {type(tags).__name__}")
    return _checked(path, tags)


def _screen(pickled: bytes) -> None:
    """Refuse what would take memory or time beyond the file's own size.

    The unpickler makes room for the largest memo number that a file writes, and 60 tuples that hold the one before
    twice are 2**60 to who hashes or prints the last.

    Raises:
        pickle.UnpicklingError: for another operation, memo numbers with gaps, or a container that is referred to twice.
    """
    slots: dict[int, bool] = {}
    containers, before = 0, ""
    argument: Any
    for operation, argument, _ in pickletools.genops(pickled):
        name = operation.name
        if name not in _OPERATIONS:
            raise pickle.UnpicklingError(f"it uses the operation {name}, which tags do not need")
        if name in _PUT:
            slot = len(slots) if name == "MEMOIZE" else int(argument or 0)
            if slot > 2 * len(slots) + 1000:
                raise pickle.UnpicklingError(f"memo number {slot} after {len(slots)} others")
            slots[slot] = before in _CONTAINERS
        elif name in _GET and slots.get(int(argument or 0), True):
            raise pickle.UnpicklingError("it refers to a list, tuple or dict twice")
        containers += name in _CONTAINERS
        if containers * _CONTAINER_BYTES > _FREE_BYTES + 4 * len(pickled):
            raise pickle.UnpicklingError(f"{containers} lists, tuples and dicts in {len(pickled)} bytes")
        before = before if name in _PUT else name  # a second PUT is of the same object


def _header(file):
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _checked(path: Path, tags: dict) -> dict[str, np.ndarray]:
    result = {}
    length = None
    for key, array in tags.items():
        value = array.value if isinstance(array, _Array) and hasattr(array, "value") else None
        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise DataError(f"{path}: {key!r}: expected a vector of tags")
        length = len(value) if length is None else length
        if len(value) != length or not np.isin(value, (0, 1)).all():
            raise DataError(f"{path}: {key!r}: expected {length} values of 0 or 1, found {value.tolist()}")
        if isinstance(key, int):
            key = f"{key // 1_000_000:04d}_{key % 1_000_000:06d}"
        elif not isinstance(key, str):
            raise DataError(f"{path}: the key {key!r} is no image id")
        result[key] = value.astype(bool)
    return result
