"""NumPy arrays and lists of byte strings as TensorProto messages and back."""

from __future__ import annotations

import math

import numpy as np

from .errors import AnswerError
from .messages import TensorProto

# tensorflow.DataType
_FLOAT, _UINT8, _STRING = 1, 4, 7
_DTYPES: dict[int, np.dtype] = {_FLOAT: np.dtype("<f4"), _UINT8: np.dtype("u1")}


def to_proto(value):
    """uint8 or float32 array of any shape, or a list of bytes -> TensorProto."""
    proto = TensorProto()
    if isinstance(value, list):
        proto.dtype = _STRING
        proto.tensor_shape.dim.add(size=len(value))
        proto.string_val.extend(value)
        return proto
    proto.dtype = {dtype: number for number, dtype in _DTYPES.items()}[value.dtype]
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = np.ascontiguousarray(value).tobytes()
    return proto


def from_proto(proto, name: str):
    """TensorProto -> array, or list of bytes for a vector of strings.

    Raises:
        AnswerError: another element type, or values that do not fill the announced shape.
    """
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise AnswerError(f"{name}: found the shape {shape}")
    if proto.dtype == _STRING:
        if len(shape) != 1 or len(proto.string_val) != shape[0]:
            raise AnswerError(f"{name}: found {len(proto.string_val)} strings for the shape {shape}, expected a vector")
        return list(proto.string_val)
    dtype = _DTYPES.get(proto.dtype)
    if dtype is None:
        raise AnswerError(f"{name}: element type {proto.dtype}, expected float32, uint8 or string")
    if proto.tensor_content:
        values = np.frombuffer(proto.tensor_content, np.uint8)
        if values.size != math.prod(shape) * dtype.itemsize:
            raise AnswerError(f"{name}: found {values.size} bytes for the shape {shape} of {dtype}")
        return values.view(dtype).reshape(shape)
    values = np.array(proto.float_val if proto.dtype == _FLOAT else proto.int_val, dtype)
    # A shortened message: the last value stands for all that follow.
    if not values.size and math.prod(shape) or values.size > math.prod(shape):
        raise AnswerError(f"{name}: found {values.size} values for the shape {shape}")
    return np.pad(values, (0, math.prod(shape) - values.size), mode="edge" if values.size else "constant").reshape(shape)
