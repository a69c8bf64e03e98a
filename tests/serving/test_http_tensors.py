"""Random requests of the Open Inference Protocol: a request or a typed failure, never another exception."""

import json
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss_onnx.http_service.failures import RequestError
from tfwsss_onnx.http_service.tensors import parse_request, render_response

LIMITS = {"max_json": 10_000, "max_images": 4, "max_pixels": 1e4}
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["images", "image_bytes", "mask"]) | JSON,
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]) | JSON,
        "shape": st.lists(st.integers(-2, 6), max_size=5) | st.sampled_from([[1, 2, 2, 3], [2]]) | JSON,
        "data": st.lists(st.integers(-1, 256), max_size=14) | JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "content_type"]), st.integers(-1, 30) | JSON, max_size=2) | JSON,
    },
)
REQUEST = st.fixed_dictionaries({}, optional={"inputs": st.lists(ENTRY, max_size=2) | JSON, "outputs": st.lists(ENTRY, max_size=2) | JSON, "id": JSON, "parameters": JSON})


def parse(body: bytes, header_length):
    try:
        return parse_request(body, header_length, **LIMITS)
    except RequestError as error:
        assert str(error) and error.status in (400, 413)
        return None


@given(REQUEST, st.binary(max_size=40), st.booleans())
@settings(max_examples=400, deadline=None)
def test_requests_of_the_right_outline(request, tail, binary):
    header = json.dumps(request).encode()
    parsed = parse(header + tail if binary else header, str(len(header)) if binary else None)
    if parsed is not None:
        assert (parsed.images is None) != (parsed.files is None)
        assert parsed.images is None or (parsed.images.dtype == np.uint8 and parsed.images.ndim == 4)
        assert parsed.outputs and {name for name, _ in parsed.outputs} <= {"mask", "mask_png"}


@given(st.binary(max_size=200), st.none() | st.text(max_size=6) | st.integers(-5, 300).map(str))
@settings(max_examples=300, deadline=None)
def test_any_bytes(body, header_length):
    parse(body, header_length)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.booleans(), st.text(max_size=10))
def test_files_there_and_back(files, binary, identity):
    body, header_length = render_response("m", "1", identity, [("mask_png", files, binary)])
    response = json.loads(body[:header_length] if header_length else body)
    assert response.get("id", "") == identity
    entry = {**response["outputs"][0], "name": "image_bytes"}
    header = json.dumps({"inputs": [entry], "id": identity}).encode()
    tail = body[header_length:] if header_length else b""
    parsed = parse(header + tail, str(len(header)) if binary else None)
    assert parsed.files == files and parsed.id == identity


def test_lengths_inside_a_binary_tensor_are_checked():
    for tail, words in ((struct.pack("<I", 2**32 - 1) + b"abc", "4294967295 bytes, but 3 are left"), (b"ab", "cut off")):
        header = json.dumps({"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tail)}}]}).encode()
        try:
            parse_request(header + tail, str(len(header)), **LIMITS)
        except RequestError as error:
            assert words in str(error)
        else:
            raise AssertionError("accepted")
