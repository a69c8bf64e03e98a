"""Caffe networks (`.caffemodel`): the published VGG16 weights, read off the protobuf wire format.

Only four message types matter, so no generated code is needed:

    NetParameter      2: V1LayerParameter (files before 2015), 100: LayerParameter
    V1LayerParameter  4: name, 6: BlobProto         LayerParameter  1: name, 7: BlobProto
    BlobProto         1-4: number, channels, height, width (files before 2015), 7: BlobShape, 5: floats, 8: doubles
    BlobShape         1: sides
Repeated numbers may be packed (one run of bytes) or not (each with its own key).
"""

import math

import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import MAX_DIMENSIONS, Cursor, map_file
from tfwsss.weights.naming import from_caffe

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Messages of a network of a thousand layers have some ten thousand fields.
MAX_FIELDS = 200_000


class _Budget:
    """Counts fields over the whole file, so that a file of nothing but tiny fields ends soon."""

    def __init__(self):
        self.left = MAX_FIELDS

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise WeightsError(f"not a Caffe network: more than {MAX_FIELDS} protobuf fields")


def _varint(cursor: Cursor) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise WeightsError(f"damaged protobuf: number too long at position {cursor.position}")


def _fields(data: memoryview, budget: _Budget):
    """Yield (field number, wire type, value, cursor after it); the value is a number or a memoryview."""
    cursor = Cursor(data)
    while cursor.left:
        budget.spend()
        key = _varint(cursor)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WeightsError("damaged protobuf: field number 0")
        if wire == VARINT:
            yield number, wire, _varint(cursor), cursor
        elif wire == FIXED64:
            yield number, wire, cursor.take(8), cursor
        elif wire == BYTES:
            yield number, wire, cursor.take(_varint(cursor)), cursor
        elif wire == FIXED32:
            yield number, wire, cursor.take(4), cursor
        else:
            raise WeightsError(f"damaged protobuf: wire type {wire}")


def _unpacked_run(value: memoryview, cursor: Cursor) -> np.ndarray:
    """The values of a run of equal one-byte keys and fixed-size values, of which `value` is the first."""
    # One step of Python per weight would take minutes, so the run is looked at as an array of records, in windows
    # that double: the cost stays that of the run, not of what follows it.
    record = len(value) + 1
    start = cursor.position - record
    key, count, window = cursor.data[start], 0, 64
    while True:
        first = start + count * record
        window = min(window, (len(cursor.data) - first) // record)
        records = np.frombuffer(cursor.data[first : first + window * record], np.uint8).reshape(-1, record)
        others = np.flatnonzero(records[:, 0] != key)
        count += int(others[0]) if len(others) else window
        if len(others) or window == 0:
            break
        window *= 2
    cursor.position = start + count * record
    run = np.frombuffer(cursor.data[start : cursor.position], np.uint8).reshape(-1, record)
    return np.ascontiguousarray(run[:, 1:]).view(f"<f{record - 1}").ravel()


def _shape(data: memoryview, budget: _Budget) -> list[int]:
    sides = []
    for number, wire, value, _ in _fields(data, budget):
        if number == 1 and wire == VARINT:
            sides.append(value)
        elif number == 1 and wire == BYTES:
            packed = Cursor(value)
            while packed.left:
                budget.spend()
                sides.append(_varint(packed))
    if len(sides) > MAX_DIMENSIONS:
        raise WeightsError(f"Caffe blob of {len(sides)} dimensions")
    return sides


def _blob(data: memoryview, budget: _Budget) -> np.ndarray:
    legacy, shape, runs = {}, None, []
    for number, wire, value, cursor in _fields(data, budget):
        if number in (1, 2, 3, 4) and wire == VARINT:
            legacy[number] = value
        elif number == 7 and wire == BYTES:
            shape = _shape(value, budget)
        elif number in (5, 8) and wire == BYTES:
            size = 4 if number == 5 else 8
            if len(value) % size:
                raise WeightsError(f"damaged Caffe blob: {len(value)} bytes are no whole number of values")
            runs.append(np.frombuffer(value, f"<f{size}"))
        elif (number, wire) in ((5, FIXED32), (8, FIXED64)):
            runs.append(_unpacked_run(value, cursor))
    values = runs[0] if len(runs) == 1 else np.concatenate([np.zeros(0, np.float32), *runs])
    if shape is None:
        shape = [legacy.get(number, 1) for number in (1, 2, 3, 4)] if legacy else [len(values)]
    if math.prod(shape) != len(values):
        raise WeightsError(f"Caffe blob of shape {shape} with {len(values)} values")
    return values.reshape(shape)


def _layer(data: memoryview, name_field: int, blob_field: int, budget: _Budget) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, wire, value, _ in _fields(data, budget):
        if number == name_field and wire == BYTES:
            name = bytes(value).decode("utf-8")
        elif number == blob_field and wire == BYTES:
            blobs.append(_blob(value, budget))
    return name, blobs


def read_layers(path) -> dict[str, list[np.ndarray]]:
    """{layer name: its blobs} of the layers that have any.

    Raises:
        WeightsError: damaged, or not a Caffe network at all.
    """
    budget, layers = _Budget(), {}
    for number, wire, value, _ in _fields(map_file(path), budget):
        if wire == BYTES and number in (2, 100):
            name, blobs = _layer(value, *((4, 6) if number == 2 else (1, 7)), budget)
            if blobs:
                layers[name] = blobs
    if not layers:
        raise WeightsError("no layer with weights in it")
    return layers


def read(path, model) -> tuple[dict, tuple]:
    """Arrays of a Caffe file as {"layer/variable": array in the Keras layout}, and no foreign heads of its own."""
    return from_caffe(read_layers(path)), ()
