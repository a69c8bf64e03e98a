"""The hostile files against a real server: the right mask or a 4xx answer, and a server that stays well and small."""

import base64
import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.hostile.corpus import corpus
from tfwsss_onnx import ImageError, Segmenter

MOST_MEGABYTES = 250


def peak_megabytes(process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def png_of(answer) -> bytes:
    if answer.headers["content-type"] == "image/png":
        return answer.content
    return base64.b64decode(answer.json()["outputs"][0]["data"][0])


@pytest.fixture(scope="module")
def answers(serve, exported):
    """(answers by name, growth of the server's memory in MB, its health at the end)."""
    server = serve(exported("local"))
    before = peak_megabytes(server.process)
    with httpx.Client(base_url=server.url, timeout=120) as client:

        def send(file):
            way = len(file.name) % 3  # each file goes one of the three ways in
            if way == 0:
                return client.post("/segment", files={"photo": (file.name, file.data)})
            if way == 1:
                return client.post("/segment", content=file.data)
            tensor = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4 + len(file.data)}}
            header = json.dumps({"inputs": [tensor]}).encode()
            content = header + struct.pack("<I", len(file.data)) + file.data
            return client.post("/v2/models/segmenter/infer", content=content, headers={"Inference-Header-Content-Length": str(len(header))})

        files = list(corpus())
        with ThreadPoolExecutor(4) as threads:
            found = dict(zip([file.name for file in files], threads.map(send, files), strict=True))
        assert server.process.poll() is None
        return found, peak_megabytes(server.process) - before, client.get("/v2/health/ready").status_code, server.log.read_text()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF
def test_every_file_gives_4xx_or_the_right_mask(answers, exported):
    segmenter = Segmenter(exported("local"), device="cpu", threads=1)
    wrong = []
    for name, data, expectation in corpus():
        answer = answers[0][name]
        if answer.status_code != 200:
            if not 400 <= answer.status_code < 500 or expectation.kind == "mask" or not answer.json()["error"]:
                wrong.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            continue
        mask = np.asarray(Image.open(io.BytesIO(png_of(answer))))
        try:
            expected = segmenter(data if expectation.pixels is None else expectation.pixels)
        except ImageError as error:
            wrong.append(f"{name}: a mask of {mask.shape}, expected {error}")
            continue
        if expectation.kind == "error" or not np.array_equal(mask, expected):
            wrong.append(f"{name}: a wrong mask of {mask.shape}")
    assert not wrong, "\n".join(wrong)


def test_the_server_stays_well(answers):
    found, growth, health, log = answers
    assert health == 200 and growth < MOST_MEGABYTES
    assert "Traceback" not in log
    assert {answer.status_code for answer in found.values()} <= {200, 400, 413}
