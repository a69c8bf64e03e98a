"""`mlflow models serve` of both registered models, as real processes that answer over HTTP."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import urllib3
from PIL import Image

from tests.mlflow_models.conftest import png, register
from tfwsss_onnx import Segmenter
from tfwsss_pipelines.stages.registry import Gates

START_LIMIT = 240  # seconds, on a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def servers(store, onnx, photo, tmp_path_factory):
    """Addresses of the two models' servers."""
    register(onnx, "animals", store[1](), photo, Gates(0.6, 0.5, "a"), {})
    program = str(Path(sys.executable).with_name("mlflow"))
    folder = tmp_path_factory.mktemp("serve")
    # mlflow starts its server with the `python` that it finds.
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store[0], "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    processes, addresses = [], []
    for name in ("animals", "animals-images"):
        port = free_port()
        command = [program, "models", "serve", "-m", f"models:/{name}@champion", "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
        log = (folder / f"{name}.log").open("wb")
        processes.append((subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True), log))
        addresses.append(f"http://127.0.0.1:{port}")
    try:
        wait(addresses, processes)
        yield addresses
    finally:
        for process, log in processes:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            log.close()


def wait(addresses, processes) -> None:
    end = time.monotonic() + START_LIMIT
    for address, (process, log) in zip(addresses, processes, strict=True):
        while True:
            assert process.poll() is None and time.monotonic() < end, Path(log.name).read_text()[-3000:]
            try:
                if urllib3.request("GET", f"{address}/ping", timeout=5, retries=False).status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(0.5)


def invoke(address: str, body: dict):
    return urllib3.request("POST", f"{address}/invocations", json=body, timeout=60, retries=False)


@pytest.mark.slow
def test_encoded_images_over_http(servers, onnx, photo):
    answer = invoke(servers[1], {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(png(photo)).decode()]]}})
    assert answer.status == 200, answer.data
    row = answer.json()["predictions"][0]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["mask_png"]))))
    np.testing.assert_array_equal(mask, Segmenter(onnx, device="cpu")(photo))
    assert (row["height"], row["width"]) == photo.shape[:2] and set(row["labels"]) <= {"cat", "dog", "horse"}
    refused = invoke(servers[1], {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(b"no photo").decode()]]}})
    assert refused.status == 400 and "image 0" in refused.json()["message"]


@pytest.mark.slow
def test_tensors_over_http(servers, onnx, photo):
    answer = invoke(servers[0], {"inputs": {"images": photo[None].tolist()}})
    assert answer.status == 200, answer.data
    np.testing.assert_array_equal(np.array(answer.json()["predictions"]["mask"][0]), Segmenter(onnx, device="cpu")(photo))
