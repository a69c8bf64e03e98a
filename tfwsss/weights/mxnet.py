"""MXNet NDArray lists (`.params`): the published ResNet38 weights.

Little endian: uint64 0x112, uint64 reserved, uint64 number of arrays, the arrays, uint64 number of names, the names
(uint64 length, bytes). An array starts with a uint32: 0xF993FAC9 (version 2: int32 storage type, uint32 dimensions,
int64 sides), 0xF993FAC8 (version 1: uint32 dimensions, int64 sides), or, in files before 2017, the number of
dimensions itself (uint32 sides). Then int32 device type, int32 device number, int32 element type, the values.
"""

from __future__ import annotations

import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import MAX_ARRAYS, MAX_DIMENSIONS, Cursor, map_file
from tfwsss.weights.naming import from_mxnet

MAGIC = 0x112
VERSION_1 = 0xF993FAC8
VERSION_2 = 0xF993FAC9
DTYPES = {0: "f4", 1: "f8", 2: "f2", 3: "u1", 4: "i4", 5: "i1", 6: "i8"}


def sniff(head: bytes) -> bool:
    """Whether a file starting with `head` is an NDArray list."""
    return head[:16] == MAGIC.to_bytes(8, "little") + bytes(8)


def _read_array(cursor: Cursor) -> np.ndarray | None:
    word = cursor.number("I")
    if word == VERSION_2:
        storage = cursor.number("i")
        if storage != 0:
            raise WeightsError(f"MXNet array of storage type {storage}, expected 0 (dense)")
    dimensions, side = (cursor.number("I"), "q") if word in (VERSION_1, VERSION_2) else (word, "I")
    if dimensions > MAX_DIMENSIONS:
        raise WeightsError(f"MXNet array with {dimensions:#x} dimensions or of an unknown version")
    if dimensions == 0:  # an array that was never filled: nothing follows
        return None
    shape = cursor.unpack(f"{dimensions}{side}")
    cursor.unpack("ii")  # the device
    dtype = cursor.number("i")
    if dtype not in DTYPES:
        raise WeightsError(f"MXNet array of element type {dtype}, expected one of {sorted(DTYPES)}")
    return cursor.array(DTYPES[dtype], shape)


def read_ndarrays(path) -> dict[str, np.ndarray]:
    """{name with its "arg:" or "aux:" prefix: array as stored}.

    Raises:
        WeightsError: truncated, damaged, sparse, of an unknown type, or a list without names.
    """
    cursor = Cursor(map_file(path), 16)
    count = cursor.number("Q")
    if count > MAX_ARRAYS:
        raise WeightsError(f"MXNet list of {count} arrays, at most {MAX_ARRAYS} are read")
    arrays = [_read_array(cursor) for _ in range(count)]
    names = cursor.number("Q")
    if names != count:
        raise WeightsError(f"MXNet list of {count} arrays with {names} names, expected one name for each array")
    named = {}
    for array in arrays:
        name = bytes(cursor.take(cursor.number("Q"))).decode("utf-8")
        if array is not None:
            named[name] = array
    return named


def read(path, model) -> tuple[dict, tuple]:
    """Arrays of an MXNet file as {"layer/variable": array in the Keras layout}, and no foreign heads of its own."""
    return from_mxnet(read_ndarrays(path)), ()
