"""Exported files of small networks (one that looks a few pixels far, one that looks at the whole photo), and servers of them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH

ROOT = Path(__file__).parents[2]
CLASSES = ("cat", "dog", "horse")


def network(pool: bool):
    """keras.Model of stride 8, reach about 50 pixels; with `pool` also global average pooling."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((None, None, 3))
    x = inputs
    for filters in (8, 8, 8):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    x = keras.layers.ZeroPadding2D(2)(x)
    x = keras.layers.Conv2D(8, 3, dilation_rate=2, activation="relu")(x)
    if pool:
        x = x + keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, keras.layers.Conv2D(len(CLASSES) + 1, 1)(x))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """exported(name) -> path of "local", "scores" (both without pooling), "pooled"."""
    folder = tmp_path_factory.mktemp("exported")
    arguments = {"class_names": CLASSES, "normalization": TORCH}
    local, pooled = network(pool=False), network(pool=True)
    export_onnx(local, folder / "local.onnx", **arguments)
    export_onnx(local, folder / "scores.onnx", outputs=("scores",), **arguments)
    export_onnx(pooled, folder / "pooled.onnx", **arguments)
    return lambda name: folder / f"{name}.onnx"


@pytest.fixture(scope="session")
def photo():
    """photo(height, width, seed) -> uint8 [height, width, 3], smooth and coloured."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = [sum(np.sin(rng.uniform(0.02, 0.4) * y + rng.uniform(0.02, 0.4) * x + rng.uniform(0, 6)) for _ in range(4)) for _ in range(3)]
        return np.uint8(np.clip(127 + 45 * np.stack(waves, axis=2), 0, 255))

    return draw


class Server:
    """`tfwsss-onnx-serve` in a process of its own on a free port of the loopback device."""

    def __init__(self, model: Path, log: Path, options):
        code = "import sys; from tfwsss_onnx.http_service.command import main; main()"
        command = [sys.executable, "-c", code, str(model), "--port", "0", "--device", "cpu", "--warm-up", "40x24", *options]
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.port = int(self._wait_for(r"running on http://127\.0\.0\.1:(\d+)").group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        self._wait_for("ready on cpu")

    def _wait_for(self, pattern: str):
        for _ in range(600):
            found = re.search(pattern, self.log.read_text())
            if found:
                return found
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} in {self.log.read_text()}")

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """serve(model, *options) -> Server, ready; all of them end with the tests."""
    servers = []

    def start(model: Path, *options: str) -> Server:
        servers.append(Server(model, tmp_path_factory.mktemp("server") / "log.txt", options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(serve, exported) -> Server:
    """A server of the local network with the usual limits."""
    return serve(exported("local"))
