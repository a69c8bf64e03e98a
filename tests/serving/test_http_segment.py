"""POST /segment through a real server on loopback: what goes in, what comes out, what is refused."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tfwsss_onnx import Segmenter, overlay


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def encoded(image: np.ndarray, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()


def test_a_photo_in_an_indexed_mask_out(client, segmenter, photo):
    image = photo(45, 67)
    answer = client.post("/segment", content=encoded(image), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.mode == "P" and len(np.unique(np.asarray(picture))) > 1
    np.testing.assert_array_equal(np.asarray(picture), segmenter(image))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), segmenter.palette[segmenter(image)])
    stages = [entry.partition(";")[0] for entry in answer.headers["server-timing"].split(", ")]
    assert stages == ["read", "queue", "inference", "write", "total"]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", None])
def test_the_kind_is_recognised_by_content(client, segmenter, photo, kind):
    data = encoded(photo(45, 67), "JPEG")
    answer = client.post("/segment", content=data, headers={"Content-Type": kind} if kind else {})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), segmenter(data))


def test_a_form_with_a_file(client, segmenter, photo):
    image = photo(600, 800)
    data = encoded(image, "BMP")
    assert len(data) > 1 << 20  # longer than what a form keeps in memory
    answer = client.post("/segment", files={"photo": ("photo.bmp", data)}, data={"note": "x"})
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), segmenter(image))


def test_overlays(client, segmenter, photo):
    image = photo(45, 67)
    mask = segmenter(image)
    answer = client.post("/segment?output=overlay&opacity=0.25", content=encoded(image))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), overlay(image, mask, segmenter.palette, 0.25))
    jpeg = client.post("/segment?output=overlay", content=encoded(image), headers={"Accept": "image/jpeg"})
    assert jpeg.headers["content-type"] == "image/jpeg"
    difference = np.asarray(Image.open(io.BytesIO(jpeg.content))).astype(int) - overlay(image, mask, segmenter.palette)
    assert np.abs(difference).mean() < 10


@pytest.mark.parametrize(("query", "accept"), [("?output=json", "*/*"), ("", "application/json")])
def test_everything_as_json(client, segmenter, photo, query, accept):
    image = photo(45, 67)
    mask = segmenter(image)
    answer = client.post("/segment" + query, content=encoded(image), headers={"Accept": accept}).json()
    assert (answer["width"], answer["height"], answer["batch"]) == (67, 45, 1)
    assert set(answer["timings_ms"]) == {"read", "queue", "inference", "write"}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask_png"])))), mask)
    shares = {entry["label"]: entry["share"] for entry in answer["classes"]}
    assert shares == pytest.approx({label: (mask == label).mean() for label in np.unique(mask)})
    assert [entry["share"] for entry in answer["classes"]] == sorted(shares.values(), reverse=True)
    assert {(entry["name"], entry["color"]) for entry in answer["classes"]} <= {
        (name, "#" + color.tobytes().hex()) for name, color in zip(segmenter.labels, segmenter.palette, strict=True)
    }


@pytest.mark.parametrize(
    ("query", "headers", "body", "status", "words"),
    [
        ("", {}, b"hello", 400, "not an image"),
        ("", {}, b"", 400, "no bytes"),
        ("", {"Content-Type": "text/html"}, b"<p>", 415, "text/html"),
        ("", {"Content-Type": "application/json"}, b"{}", 415, "application/json"),
        ("", {"Content-Encoding": "gzip"}, b"\x1f\x8b", 415, "gzip"),
        ("?output=scores", {}, b"x", 400, "'scores'"),
        ("?output=overlay&opacity=2", {}, b"x", 400, "'2'"),
        ("?opacity=nan", {}, b"x", 400, "'nan'"),
        ("", {"Content-Type": "multipart/form-data"}, b"x", 400, "oundary"),
        ("", {"Content-Type": "multipart/form-data; boundary=a"}, b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--a--\r\n', 400, "no file"),
        ("", {"Content-Type": "multipart/form-data; boundary=a"}, b"--b\r\nnonsense", 400, ""),
    ],
)
def test_wrong_requests_are_answered_with_the_reason(client, query, headers, body, status, words):
    answer = client.post("/segment" + query, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]


def test_other_addresses_and_methods(client):
    assert client.get("/segment").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert "error" in client.get("/nothing").json()


def test_two_photos_in_a_form_are_refused(client, photo):
    files = [("one", ("one.png", encoded(photo(20, 20)))), ("two", ("two.png", encoded(photo(20, 20))))]
    answer = client.post("/segment", files=files)
    assert answer.status_code == 400 and "iles" in answer.json()["error"]


def test_prometheus_counts(serve, exported, photo):
    fresh = serve(exported("local"))
    with httpx.Client(base_url=fresh.url, timeout=60) as client:
        for _ in range(3):
            client.post("/segment", content=encoded(photo(24, 40)))
        client.post("/segment", content=b"hello")
        text = client.get("/metrics").text
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}
    assert values['tfwsss_requests_total{route="/segment",status="200"}'] == 3
    assert values['tfwsss_requests_total{route="/segment",status="400"}'] == 1
    assert values["tfwsss_images_total"] == 3 and values["tfwsss_batch_size_count"] == 3
    assert values['tfwsss_stage_seconds_count{stage="inference"}'] == 3
    assert values["tfwsss_ready"] == 1 and values["tfwsss_requests_active"] == 0 and values["tfwsss_request_bytes"] == 0
    assert values["process_resident_memory_bytes"] > 0
    assert 'tfwsss_model_info{device="cpu",name="segmenter",precision="fp32",version="1"}' in values
    assert fresh.stop() in (0, -15)
