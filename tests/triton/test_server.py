"""Triton itself runs the bundle: its Python backend; the wheel that the tests take the server from has no backend onnxruntime.

The minute that a deployment is worth: TFWSSS_TRITON_SECONDS=60 pytest -n 0 tests/triton/test_server.py
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.hostile.encode import png
from tests.triton.conftest import config
from tfwsss_onnx import Segmenter
from tfwsss_pipelines.deployment.exported import read_exported
from tfwsss_pipelines.deployment.triton import write_triton

MODEL = "segmenter-images"
SECONDS = float(os.environ.get("TFWSSS_TRITON_SECONDS", 4))
CLIENTS = 32
PROTOCOLS = {"http": tritonclient.http, "grpc": tritonclient.grpc}


@pytest.fixture(params=PROTOCOLS)
def client(triton, request):
    """(tritonclient's module, a client of it)."""
    module = PROTOCOLS[request.param]
    with module.InferenceServerClient(getattr(triton, request.param)) as made:
        yield module, made


def ask(module, client, files: list[bytes], version: str = "") -> list[bytes]:
    tensor = module.InferInput("image_bytes", [len(files), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(files, np.object_).reshape(-1, 1))
    found = client.infer(MODEL, [tensor], model_version=version).as_numpy("mask_png")
    assert found.shape == (len(files), 1)
    return list(found[:, 0])


def mask(answer: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(answer))
    assert (picture.format, picture.mode) == ("PNG", "P")
    return np.asarray(picture)


def test_the_repository_is_what_triton_reads(triton):
    with tritonclient.http.InferenceServerClient(triton.http) as client:
        states = {entry["name"]: entry for entry in client.get_model_repository_index()}
        assert states[MODEL]["state"] == "READY"
        # Its configuration is accepted; only the backend is missing here.
        assert "unable to find backend library for backend 'onnxruntime'" in states["segmenter"]["reason"]
        metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1, 1]}]
    assert metadata["outputs"] == [{"name": "mask_png", "datatype": "BYTES", "shape": [-1, 1]}]


def test_masks_are_those_of_the_runtime(client, photos, expected):
    for files, labels in (([file], [label]) for file, label in zip(photos, expected, strict=True)):
        np.testing.assert_array_equal(mask(ask(*client, files)[0]), labels[0])
    for answer, label in zip(ask(*client, photos), expected, strict=True):
        np.testing.assert_array_equal(mask(answer), label)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"no photo", "image: cannot be decoded: not an image"),
        (b"", "image: cannot be decoded: no bytes"),
        (png(20000, 20000, 8, 2, bytes(10)), "image: 20000x20000 pixels, the limit is 1 megapixels"),
        (bytes(32_000_001), "image: 32000001 bytes, the limit is 32000000"),
    ],
    ids=["no photo", "empty", "bomb", "long"],
)
def test_a_bad_file_is_one_line(client, photos, expected, file, message):
    with pytest.raises(InferenceServerException) as caught:
        ask(*client, [file])
    assert caught.value.message().startswith(message) and "\n" not in caught.value.message()
    with pytest.raises(InferenceServerException, match=r"\(photo 1 of 2\)$"):
        ask(*client, [photos[0], file])
    np.testing.assert_array_equal(mask(ask(*client, photos[:1])[0]), expected[0])


def test_too_many_photos_in_one_request(client, photos):
    with pytest.raises(InferenceServerException, match="exceed|batch"):
        ask(*client, photos[:1] * 9)


def test_many_clients_get_their_own_masks(triton, photos, expected):
    """Each asks by its own protocol, photo after photo, every eighth time with a damaged one, which must fail alone."""
    stop, problems, answered, refused = time.monotonic() + SECONDS, [], [0] * CLIENTS, [0] * CLIENTS

    def work(number: int) -> None:
        protocol = list(PROTOCOLS)[number % 2]
        module = PROTOCOLS[protocol]
        try:
            with module.InferenceServerClient(getattr(triton, protocol)) as client:
                turn = number
                while time.monotonic() < stop:
                    turn += 1
                    if turn % 8 == 0:
                        with pytest.raises(InferenceServerException, match="cannot be decoded"):
                            ask(module, client, [photos[turn % len(photos)][:60]])
                        refused[number] += 1
                        continue
                    index = turn % len(photos)
                    np.testing.assert_array_equal(mask(ask(module, client, [photos[index]])[0]), expected[index])
                    answered[number] += 1
        except BaseException as error:  # noqa: BLE001 (shown below)
            problems.append(f"client {number} ({protocol}): {type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, "\n".join(problems)
    assert min(answered) > 0 and sum(refused) > 0
    with tritonclient.http.InferenceServerClient(triton.http) as client:
        [statistics] = client.get_inference_statistics(MODEL)["model_stats"]
    together = max(int(entry["batch_size"]) for entry in statistics["batch_stats"])
    print(f"{CLIENTS} clients, {SECONDS:g} s: {sum(answered)} masks, {sum(refused)} refused, up to {together} photos together")
    assert together > 1, "requests were never run together"


def test_the_readmes_example(triton, photos, expected, tmp_path):
    text = (triton.bundle / "README.md").read_text()
    lines = [line.removeprefix("    ") for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join(lines[next(number for number, line in enumerate(lines) if line.startswith("import")) :]).replace("127.0.0.1:8000", triton.http)
    (tmp_path / "photo.jpg").write_bytes(photos[0])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(mask((tmp_path / "mask.png").read_bytes()), expected[0])


def test_the_compose_files_health_check(triton):
    [service] = yaml.safe_load((triton.bundle / "docker-compose.yml").read_text())["services"].values()
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    port = triton.http.rpartition(":")[2]
    assert subprocess.run([part.replace("8000", port) for part in command], timeout=30, capture_output=True).returncode == 0
    assert subprocess.run([part.replace("8000", "1") for part in command], timeout=30, capture_output=True).returncode != 0


def test_a_new_version_is_loaded_while_the_old_one_serves(triton, exported, photos, expected):
    other = exported(pool=True)
    write_triton(config(version=2), read_exported(other), [1, 2], triton.bundle)
    with tritonclient.http.InferenceServerClient(triton.http) as client:
        deadline = time.monotonic() + 60
        while not client.is_model_ready(MODEL, "2") and time.monotonic() < deadline:
            np.testing.assert_array_equal(mask(ask(tritonclient.http, client, photos[:1], "1")[0]), expected[0])
            time.sleep(0.1)
        new = Segmenter(other, device="cpu")(photos[0])
        assert (new != expected[0]).any()
        np.testing.assert_array_equal(mask(ask(tritonclient.http, client, photos[:1], "2")[0]), new)
        np.testing.assert_array_equal(mask(ask(tritonclient.http, client, photos[:1])[0]), new)  # the highest version, where none is named
        np.testing.assert_array_equal(mask(ask(tritonclient.http, client, photos[:1], "1")[0]), expected[0])
