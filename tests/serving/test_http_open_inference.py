"""The Open Inference Protocol as Triton's own client speaks it, and as plain JSON."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image

from tfwsss_onnx import Segmenter


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def plain(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def tensor(name: str, value: np.ndarray, binary: bool = True):
    tensor = triton.InferInput(name, list(value.shape), "BYTES" if value.dtype == object else "UINT8")
    tensor.set_data_from_numpy(value, binary_data=binary)
    return tensor


def encoded(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_health_and_metadata(client, segmenter):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("segmenter") and client.is_model_ready("segmenter", "1")
    assert not client.is_model_ready("another")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("segmenter")
    assert metadata == client.get_model_metadata("segmenter", "1")
    assert {entry["name"]: (entry["datatype"], entry["shape"]) for entry in metadata["inputs"]} == {"images": ("UINT8", [-1, -1, -1, 3]), "image_bytes": ("BYTES", [-1])}
    assert [entry["name"] for entry in metadata["outputs"]] == ["mask", "mask_png"]
    assert metadata["parameters"]["labels"] == list(segmenter.labels)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_arrays_in_masks_out(client, segmenter, photo, binary_in, binary_out):
    images = np.stack([photo(33, 47, seed) for seed in range(3)])
    outputs = None if binary_out is None else [triton.InferRequestedOutput("mask", binary_data=binary_out)]
    result = client.infer("segmenter", [tensor("images", images, binary_in)], outputs=outputs, request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("mask"), segmenter.batch(images))
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("segmenter", "1", "seven")


def test_files_of_any_size_in_png_masks_out(client, segmenter, photo):
    photos = [photo(33, 47), photo(24, 60), photo(33, 47, 2)]
    files = np.array([encoded(image) for image in photos], object)
    result = client.infer("segmenter", [tensor("image_bytes", files)], model_version="1")
    for png, image in zip(result.as_numpy("mask_png"), photos, strict=True):
        np.testing.assert_array_equal(decoded(png), segmenter(image))


def test_both_outputs_of_files_of_one_size(client, segmenter, photo):
    images = np.stack([photo(33, 47, seed) for seed in range(2)])
    files = np.array([encoded(image) for image in images], object)
    outputs = [triton.InferRequestedOutput("mask"), triton.InferRequestedOutput("mask_png")]
    result = client.infer("segmenter", [tensor("image_bytes", files)], outputs=outputs)
    np.testing.assert_array_equal(result.as_numpy("mask"), segmenter.batch(images))
    np.testing.assert_array_equal([decoded(png) for png in result.as_numpy("mask_png")], segmenter.batch(images))


def test_many_requests_at_once_keep_apart(client, segmenter, photo):
    images = [photo(33 + 7 * (seed % 2), 47, seed)[None] for seed in range(24)]
    pending = [client.async_infer("segmenter", [tensor("images", image)]) for image in images]
    for request, image in zip(pending, images, strict=True):
        np.testing.assert_array_equal(request.get_result().as_numpy("mask"), segmenter.batch(image))


def test_the_client_is_told_what_is_wrong(client, photo):
    image = photo(33, 47)
    cases = [
        ("another", tensor("images", image[None]), {}, "404", "'another'"),
        ("segmenter", tensor("images", image[None]), {"model_version": "2"}, "404", "'2'"),
        ("segmenter", tensor("images", image), {}, "400", "[33, 47, 3]"),
        ("segmenter", tensor("photos", image[None]), {}, "400", "'photos'"),
        ("segmenter", tensor("images", np.zeros((65, 1, 1, 3), np.uint8)), {}, "400", "65 photos, the limit is 64"),
        ("segmenter", tensor("image_bytes", np.array([b"hello"], object)), {}, "400", "not an image"),
        ("segmenter", tensor("image_bytes", np.array([encoded(image), encoded(photo(8, 8))], object)), {"outputs": [triton.InferRequestedOutput("mask")]}, "400", "different sizes"),
        ("segmenter", tensor("images", image[None]), {"outputs": [triton.InferRequestedOutput("scores")]}, "400", "'scores'"),
        ("segmenter", tensor("images", image[None]), {"outputs": [triton.InferRequestedOutput("mask", class_count=2)]}, "400", "classification"),
        ("segmenter", tensor("images", image[None]), {"request_compression_algorithm": "gzip"}, "415", "gzip"),
    ]
    for model, value, arguments, status, words in cases:
        with pytest.raises(triton.InferenceServerException) as caught:
            client.infer(model, [value], **arguments)
        assert caught.value.status() == status and words in str(caught.value), caught.value


def test_plain_json(plain, segmenter, photo):
    image = photo(6, 7)
    flat = {"inputs": [{"name": "images", "shape": [1, 6, 7, 3], "datatype": "UINT8", "data": image.ravel().tolist()}]}
    answer = plain.post("/v2/models/segmenter/infer", json=flat).json()
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("mask", "UINT8", [1, 6, 7]) and "id" not in answer
    np.testing.assert_array_equal(np.reshape(output["data"], (6, 7)), segmenter(image))
    nested = {"inputs": [{**flat["inputs"][0], "data": image[None].tolist()}]}
    assert plain.post("/v2/models/segmenter/versions/1/infer", json=nested).json()["outputs"] == [output]
    file = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(encoded(image)).decode()]}
    (output,) = plain.post("/v2/models/segmenter/infer", json={"inputs": [file], "id": "x"}).json()["outputs"]
    np.testing.assert_array_equal(decoded(base64.b64decode(output["data"][0])), segmenter(image))


IMAGES = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [0] * 12}
FILES = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["aaaa"]}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "inputs: found []"),
        ([IMAGES, FILES], "either images or image_bytes"),
        ([{**IMAGES, "datatype": "FP32"}], "datatype is FP32"),
        ([{**IMAGES, "shape": [1, 2, 2, 4]}], "shape is [1, 2, 2, 4]"),
        ([{**IMAGES, "shape": [1, -2, 2, 3]}], "positive integers"),
        ([{**IMAGES, "shape": [True, 2, 2, 3]}], "positive integers"),
        ([{**IMAGES, "data": [0] * 11}], "12 integers"),
        ([{**IMAGES, "data": [0.5] * 12}], "12 integers"),
        ([{**IMAGES, "data": ["0"] * 12}], "12 integers"),
        ([{**IMAGES, "data": [[0], [0, 1]]}], "12 integers"),
        ([{**IMAGES, "data": [256] * 12}], "values 256..256"),
        ([{**IMAGES, "data": [-1] * 12}], "values -1..-1"),
        ([{**IMAGES, "data": [2**70] * 12}], "expected 0..255"),
        ([{**IMAGES, "data": [True] * 12}], "12 integers"),
        ([{**IMAGES, "data": ["x" * 200_000, *[""] * 11]}], "12 integers"),
        ([{**IMAGES, "shape": [1, 2**20, 2**20, 3]}], "megapixels"),
        ([{**FILES, "data": ["not base64!"]}], "base64"),
        ([{**FILES, "data": [7]}], "base64"),
        ([{**FILES, "data": ["aaaa", "aaaa"]}], "more elements than the 1"),
        ([{**FILES, "data": []}], "0 elements"),
        ([{**FILES, "shape": [1, 2]}], "expected [batch]"),
        ([{**FILES, "parameters": {"shared_memory_region": "x"}}], "shared_memory_region is not supported"),
        ([{**FILES, "parameters": {"binary_data_size": 9}}], "0 bytes follow"),
        ([7], "list of objects"),
    ],
)
def test_json_that_breaks_the_protocol(plain, inputs, words):
    answer = plain.post("/v2/models/segmenter/infer", json={"inputs": inputs})
    assert answer.status_code in (400, 413) and words in answer.json()["error"], answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"inputs": ' + b"[" * 100_000, b"\xff\xfe", b'{"inputs": [], "id": 3}'])
def test_bodies_that_are_no_requests(plain, body):
    answer = plain.post("/v2/models/segmenter/infer", content=body)
    assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999", "10", "1" * 5000])
def test_header_lengths_that_do_not_fit(plain, length):
    answer = plain.post("/v2/models/segmenter/infer", content=json.dumps({"inputs": [IMAGES]}), headers={"Inference-Header-Content-Length": length})
    assert answer.status_code == 400


SURROGATES = [
    b'{"inputs":[{"name":"images","shape":[1,1,1,3],"datatype":"\\ud800","data":[1,2,3]}]}',
    b'{"inputs":[{"name":"\\udfff","shape":[1],"datatype":"BYTES","data":[]}]}',
    b'{"inputs":[{"name":"image_bytes","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
    b'{"inputs":[{"name":"images","shape":[1,1,1,3],"datatype":"UINT8","data":[1,2,3]}],"outputs":[{"name":"\\ud800"}]}',
    b'{"inputs":[{"name":"image_bytes","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":"\\ud800"}}]}',
]


@pytest.mark.parametrize("body", SURROGATES)
def test_half_a_surrogate_pair_anywhere_is_a_400(plain, body):
    answer = plain.post("/v2/models/segmenter/infer", content=body)
    assert answer.status_code == 400 and answer.json()["error"]


def test_half_a_surrogate_pair_as_id_is_echoed(plain):
    answer = plain.post("/v2/models/segmenter/infer", content=b'{"id":"\\ud800","inputs":[{"name":"images","shape":[1,1,1,3],"datatype":"UINT8","data":[1,2,3]}]}')
    assert answer.status_code == 200 and answer.json()["id"] == "\ud800"


def test_more_elements_than_announced_are_not_read(plain):
    header = json.dumps({"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4_000_000}}]}).encode()
    answer = plain.post("/v2/models/segmenter/infer", content=header + bytes(4_000_000), headers={"Inference-Header-Content-Length": str(len(header))})
    assert answer.status_code == 400 and "more elements than the 1 of its shape" in answer.json()["error"]
