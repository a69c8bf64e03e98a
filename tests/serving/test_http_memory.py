"""`--memory-mb` bounds the process, whatever clients do; and what a request is thought to take is no less than what it takes."""

import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tfwsss_onnx import SegmenterError
from tfwsss_onnx.http_service.budget import divide

ROOT = Path(__file__).parents[2]
LIMIT = 400
INFER = "/v2/models/segmenter/infer"

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux only")


def megabytes(server, field: str) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024 / 1e6


def encoded(height: int, width: int, file_format: str, mode: str = "RGB", **options) -> bytes:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)).resize((width, height))
    file = io.BytesIO()
    (picture if mode == "RGB" else picture.convert("L").convert(mode) if mode.startswith("I") else picture.convert(mode)).save(file, file_format, **options)
    return file.getvalue()


def at_once(count: int, function) -> list:
    with ThreadPoolExecutor(count) as threads:
        return [each.result() for each in [threads.submit(function) for _ in range(count)]]


@pytest.fixture(scope="module")
def bound(serve, exported):
    return serve(exported("local"), "--memory-mb", str(LIMIT), "--write-limit-s", "8")


@pytest.fixture
def client(bound):
    with httpx.Client(base_url=bound.url, timeout=120) as client:
        yield client
        assert megabytes(bound, "VmHWM") < LIMIT
        assert client.post("/segment", content=encoded(48, 64, "PNG")).status_code == 200


def test_many_large_photos_at_once(client, bound):
    photo = encoded(1500, 1500, "JPEG")
    statuses = at_once(12, lambda: httpx.post(f"{bound.url}/segment?output=overlay", content=photo, timeout=120).status_code)
    assert set(statuses) <= {200, 503, 504} and 200 in statuses


def test_requests_of_empty_elements(client, bound):
    header = json.dumps({"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 20_000_000}}]}).encode()
    content, headers = header + bytes(20_000_000), {"Inference-Header-Content-Length": str(len(header))}
    statuses = at_once(8, lambda: httpx.post(bound.url + INFER, content=content, headers=headers, timeout=120).status_code)
    assert set(statuses) <= {400, 503} and 400 in statuses


@pytest.mark.parametrize("unit", [b"[]", b'{"":0}', b"[[[]]]", b'"ab"', b"1", b"1.5", b'"\\ud83d\\ude00"'])
def test_json_that_grows_as_it_is_parsed(client, unit):
    body = b'{"inputs":[%s]}' % b",".join([unit] * (3_900_000 // (len(unit) + 1)))
    assert client.post(INFER, content=body).status_code in (400, 413)


def test_answers_that_nobody_reads(client, bound):
    body = json.dumps({"id": "x" * 3_000_000, "inputs": [{"name": "images", "shape": [1, 1, 1, 3], "datatype": "UINT8", "data": [1, 2, 3]}]}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connections = []
    for _ in range(60):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", bound.port))
        connections.append(connection)
        try:
            connection.sendall(head + body)
        except OSError:  # answered 503 and closed
            continue
    assert client.post("/segment", content=encoded(48, 64, "PNG")).status_code == 200
    for _ in range(600):  # the write limit ends them
        if "tfwsss_request_bytes 0.0" in client.get("/metrics").text:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the answers are still there")
    for connection in connections:
        connection.close()


def test_photos_that_need_more_than_there_is(client):
    found = client.post("/segment", content=encoded(5000, 7000, "JPEG", progressive=True))
    assert found.status_code == 413 and "MB of memory" in found.json()["error"] and "--memory-mb" in found.json()["error"]


def test_large_photos_are_cut_to_what_fits(bound, client):
    assert "are cut into tiles" in bound.log.read_text()
    found = client.post("/segment", content=encoded(1400, 1400, "PNG"))
    assert found.status_code == 200 and Image.open(io.BytesIO(found.content)).size == (1400, 1400)


def test_a_limit_below_the_model_is_refused(exported, capsys):
    from tfwsss_onnx.http_service.command import main

    with pytest.raises(SystemExit) as caught:
        main([str(exported("local")), "--memory-mb", "20"])
    assert caught.value.code == 2
    assert "memory_mb: found 20, expected at least" in capsys.readouterr().err


def test_the_shares():
    budget = divide(600e6, 150_000_000, 400.0, 1536**2, 8_000_000)
    assert budget.run_pixels + budget.kept_pixels < 1536**2
    taken = 1.15 * 400 * (budget.run_pixels + budget.kept_pixels) + budget.bodies + budget.work
    assert 0.95 * (600e6 - 150e6 - 48e6) < taken <= 600e6 - 150e6 - 48e6
    assert divide(0, 150_000_000, 400.0, 1536**2, 8_000_000).run_pixels == 1536**2
    assert divide(600e6, None, None, 1536**2, 8_000_000).limit == 600_000_000
    with pytest.raises(SegmenterError, match="expected at least 2[0-9]{2}: the model alone takes 150 MB"):
        divide(160e6, 150_000_000, 400.0, 1536**2, 8_000_000)


KINDS = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "LA", {}),
    ("PNG", "I;16", {}),
    ("PNG", "P", {"transparency": 3}),
    ("BMP", "RGB", {}),
    ("GIF", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True, "method": 0}),
]
MEASURE = """
import sys
from tfwsss_onnx.images import load_decoders, reading_cost, to_array
from tfwsss_onnx.http_service.process_memory import peak_above, return_large_blocks
return_large_blocks()
load_decoders()
data = open(sys.argv[1], "rb").read()
print(peak_above(lambda: to_array(data, 50.0)), reading_cost(data, 50.0)[1])
"""


@pytest.mark.parametrize(("file_format", "mode", "options"), KINDS)
def test_reading_takes_no_more_than_is_reserved(tmp_path, file_format, mode, options):
    (tmp_path / "photo").write_bytes(encoded(2000, 2400, file_format, mode, **options))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / "photo")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken, reserved = map(int, done.stdout.split())
    assert 2000 * 2400 * 3 <= taken + 2_000_000 and taken <= reserved
