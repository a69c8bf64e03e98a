"""Requests and responses of the Open Inference Protocol, as JSON and with the binary tensor extension.

A request is JSON, or JSON followed by the tensors' bytes one after the other (the header
Inference-Header-Content-Length says where they begin). Tensors of type BYTES are, in binary, elements of a 4-byte
little-endian length and the bytes; in JSON, base64 text.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .failures import BodyTooLarge, RequestError

_UNSUPPORTED = ("shared_memory_region", "classification")
_NUMERALS = [b"%d" % value for value in range(256)]
_PART = 1 << 16


class InferRequest(NamedTuple):
    """One request: exactly one of `images` (uint8 [B, H, W, 3]) and `files` (encoded photos), and the wanted outputs."""

    id: str
    images: np.ndarray | None
    files: list[bytes] | None
    outputs: list[tuple[str, bool]]


def parse_request(body: bytes, header_length: str | None, *, max_json: int, max_images: int, max_pixels: float) -> InferRequest:
    """Read a request.

    Args:
        body: the whole body.
        header_length: the header Inference-Header-Content-Length, None without it.
        max_json: bytes of JSON at most.
        max_images: photos at most.
        max_pixels: pixels of a photo at most.

    Raises:
        RequestError: the request breaks the protocol or a limit; the message says where.
    """
    header, rest = _split(body, header_length)
    if len(header) > max_json:
        raise BodyTooLarge(f"the request holds {len(header)} bytes of JSON, the limit is {max_json}; send tensors in binary")
    request = _load(header)
    inputs = _objects(request, "inputs")
    if len(inputs) != 1 or inputs[0].get("name") not in ("images", "image_bytes"):
        raise RequestError(f"inputs: found {[entry.get('name') for entry in inputs]}, expected either images or image_bytes")
    entry = inputs[0]
    shape, data = _shape(entry), _binary(entry, rest)
    if shape[0] > max_images:
        raise RequestError(f"inputs: found {shape[0]} photos, the limit is {max_images}")
    identity = request.get("id", "")
    if not isinstance(identity, str):
        raise RequestError("id: expected a string")
    if entry["name"] == "images":
        return InferRequest(identity, _images(entry, shape, data, max_pixels), None, _outputs(request, "mask"))
    return InferRequest(identity, None, _files(entry, shape, data), _outputs(request, "mask_png"))


def parsing_cost(body: bytes, header_length: str | None) -> int:
    """Bytes of memory that `parse_request` takes at most, told from the JSON's characters.

    Raises:
        RequestError: the header is wrong.
    """
    header, rest = _split(body, header_length)
    # An object of CPython with its place in a list; a character in the longest form of a string, twice while it is copied.
    containers = 100 * header.count(b"[") + 320 * header.count(b"{") + 100 * header.count(b":")
    return 65536 + containers + 64 * header.count(b",") + 8 * len(header) + len(rest)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not re.fullmatch("[0-9]{1,15}", header_length) or int(header_length) > len(body):
        raise RequestError(f"Inference-Header-Content-Length: found {header_length[:40]!r}, expected 0 to the body's {len(body)} bytes")
    return body[: int(header_length)], memoryview(body)[int(header_length) :]


def _load(header: bytes) -> dict:
    try:
        request = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise RequestError("the request: expected a JSON object")
    return request


def _objects(request: dict, key: str) -> list[dict]:
    entries = request.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RequestError(f"{key}: expected a list of objects")
    return entries


def _parameters(entry: dict) -> dict:
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError("parameters: expected an object")
    for name in _UNSUPPORTED:
        if name in parameters:
            raise RequestError(f"parameters: {name} is not supported")
    return parameters


def _shape(entry: dict) -> list[int]:
    shape = entry.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise RequestError(f"{entry['name']}: shape must be a list of positive integers")
    return shape


def _binary(entry: dict, rest: memoryview) -> memoryview | None:
    """The tensor's bytes, None if it is in the JSON."""
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        if len(rest):
            raise RequestError(f"{entry['name']}: {len(rest)} bytes behind the JSON, and no binary_data_size")
        return None
    if type(size) is not int or size != len(rest):
        raise RequestError(f"{entry['name']}: binary_data_size is {str(size)[:40]}, but {len(rest)} bytes follow the JSON")
    return rest


def _typed(entry: dict, datatype: str) -> None:
    if entry.get("datatype") != datatype:
        raise RequestError(f"{entry['name']}: datatype is {str(entry.get('datatype'))[:40]}, expected {datatype}")


def _images(entry: dict, shape: list[int], data: memoryview | None, max_pixels: float) -> np.ndarray:
    _typed(entry, "UINT8")
    if len(shape) != 4 or shape[3] != 3:
        raise RequestError(f"images: shape is {shape}, expected [batch, height, width, 3]")
    batch, height, width, _ = shape
    if height * width > max_pixels:
        raise BodyTooLarge(f"images: {width}x{height} pixels, the limit is {max_pixels / 1e6:g} megapixels")
    if data is not None:
        if len(data) != batch * height * width * 3:
            raise RequestError(f"images: {len(data)} bytes, but shape {shape} needs {batch * height * width * 3}")
        return np.frombuffer(data, np.uint8).reshape(shape)
    values = _numbers(entry.get("data"))
    if len(values) != batch * height * width * 3 or not all(type(value) is int for value in values):
        raise RequestError(f"images: data must be {batch * height * width * 3} integers")
    try:
        return np.frombuffer(bytes(values), np.uint8).reshape(shape)
    except ValueError:
        raise RequestError(f"images: values {str(min(values))[:40]}..{str(max(values))[:40]}, expected 0..255") from None


def _numbers(data) -> list:
    """The entries of lists nested as deep as the shape is long, or less."""
    values = data if isinstance(data, list) else []
    for _ in range(3):
        if not values or not all(isinstance(entry, list) for entry in values):
            break
        values = [value for entry in values for value in entry]
    return values


def _files(entry: dict, shape: list[int], data: memoryview | None) -> list[bytes]:
    _typed(entry, "BYTES")
    count = int(np.prod(shape, dtype=object))
    if count != shape[0]:
        raise RequestError(f"image_bytes: shape is {shape}, expected [batch]")
    files = _from_json(entry.get("data"), count) if data is None else _from_binary(data, count)
    if len(files) != count:
        raise RequestError(f"image_bytes: {len(files)} elements, but shape {shape} needs {count}")
    return files


def _from_json(data, count: int) -> list[bytes]:
    texts = data if isinstance(data, list) else []
    while len(texts) == 1 and isinstance(texts[0], list):  # data may be nested as the shape is
        texts = texts[0]
    _no_more_than(count, len(texts))
    texts = [text[0] if isinstance(text, list) and len(text) == 1 else text for text in texts]
    try:
        return [base64.b64decode(text, validate=True) for text in texts if isinstance(text, str) or _refuse()]
    except ValueError:
        raise RequestError("image_bytes: in JSON, data must be a list of base64 texts") from None


def _refuse() -> bool:
    raise ValueError


def _no_more_than(count: int, found: int) -> None:
    if found > count:
        raise RequestError(f"image_bytes: more elements than the {count} of its shape")


def _from_binary(data: memoryview, count: int) -> list[bytes]:
    files, position = [], 0
    while position < len(data):
        _no_more_than(count, len(files) + 1)
        if position + 4 > len(data):
            raise RequestError("image_bytes: the last element's length is cut off")
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if length > len(data) - position:
            raise RequestError(f"image_bytes: an element of {length} bytes, but {len(data) - position} are left")
        files.append(bytes(data[position : position + length]))
        position += length
    return files


def _outputs(request: dict, default: str) -> list[tuple[str, bool]]:
    """Names of the wanted outputs and whether each goes out in binary."""
    all_binary = _parameters(request).get("binary_data_output", False) is True
    if not request.get("outputs"):
        return [(default, all_binary)]
    wanted = {}
    for entry in _objects(request, "outputs"):
        name = entry.get("name")
        if name not in ("mask", "mask_png"):
            raise RequestError(f"outputs: found {str(name)[:40]!r}, expected mask or mask_png")
        wanted[name] = _parameters(entry).get("binary_data", all_binary) is True
    return list(wanted.items())


def render_response(model: str, version: str, identity: str, outputs: Sequence[tuple[str, np.ndarray | list[bytes], bool]]) -> tuple[bytes, int | None]:
    """Write a response.

    Args:
        model, version, identity: echoed.
        outputs: (name, uint8 array or list of bytes, binary or JSON).

    Returns:
        (body, length of its JSON if bytes follow it, else None).
    """
    entries, tails = [], []
    for name, value, binary in outputs:
        entry: dict[str, object] = {"name": name}
        if isinstance(value, np.ndarray):
            entry |= {"datatype": "UINT8", "shape": list(value.shape)}
        else:
            entry |= {"datatype": "BYTES", "shape": [len(value)]}
        if binary:
            tail = value.tobytes() if isinstance(value, np.ndarray) else b"".join(struct.pack("<I", len(element)) + element for element in value)
            entries.append(_json({**entry, "parameters": {"binary_data_size": len(tail)}}))
            tails.append(tail)
        else:
            entries.append(_json(entry)[:-1] + b',"data":[' + (_numbers_text(value) if isinstance(value, np.ndarray) else _base64_texts(value)) + b"]}")
    response = {"model_name": model, "model_version": version, **({"id": identity} if identity else {})}
    header = _json(response)[:-1] + b',"outputs":[' + b",".join(entries) + b"]}"
    return b"".join([header, *tails]), len(header) if tails else None


def _json(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _base64_texts(elements: list[bytes]) -> bytes:
    return b",".join(b'"' + base64.b64encode(element) + b'"' for element in elements)


def _numbers_text(values: np.ndarray) -> bytes:
    """The values of a uint8 array, a part at a time: as objects they take a hundred times their memory."""
    flat = values.ravel()
    return b",".join(b",".join([_NUMERALS[value] for value in flat[start : start + _PART].tolist()]) for start in range(0, flat.size, _PART))
