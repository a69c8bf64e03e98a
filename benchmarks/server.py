"""What the HTTP service adds to the runtime, how warm its first answer is, and what 32 clients do to it.

    python benchmarks/server.py                             # MobileNetV2 with random weights, exported for the occasion
    python benchmarks/server.py runs/demo/export/model.onnx --seconds 60 --clients 32
    sudo chrt -f 1 python benchmarks/server.py --only latency warm     # on a machine that others use, too

Prints three Markdown tables. Added latency: the runtime (in this process) and the service (in its own, over one kept
connection) get the same JPEG file in turn; the difference is taken pair by pair. Warm start: the first photo after the
warm-up against the median of those that follow, in fresh processes. Load: photos of three sizes from clients that ask
again as soon as they have their answer; the server's memory is read from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LOAD_SIZES = ((375, 500), (333, 500), (500, 375))
EXPORT = """
import keras
from tfwsss.export import export_onnx
from tfwsss.models import build_segmenter
from tfwsss.normalization import TORCH
keras.utils.set_random_seed(0)
export_onnx(build_segmenter("mobilenetv2", 20), {path!r}, class_names=[f"class {{k}}" for k in range(20)], normalization=TORCH)
"""
WARM_START = """
import json, statistics, sys, time
from tfwsss_onnx import Segmenter
photo = open(sys.argv[2], "rb").read()
segmenter = Segmenter(sys.argv[1], "cpu", spinning=False)
segmenter.warm_up([(375, 500)])
times = []
for _ in range(21):
    started = time.perf_counter()
    segmenter(photo)
    times.append(time.perf_counter() - started)
print(json.dumps(times))
"""


def jpeg(height: int, width: int, seed: int) -> bytes:
    """A photo-like JPEG: smooth regions with texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


class Server:
    """The service in a process of its own; a context manager."""

    def __init__(self, model: Path, *options: str):
        self._model = model
        self._options = options

    def __enter__(self) -> Server:
        code = "from tfwsss_onnx.http_service.command import main; main()"
        command = [sys.executable, "-c", code, str(self._model), "--port", "0", "--device", "cpu", *self._options]
        for height, width in LOAD_SIZES:
            command += ["--warm-up", f"{width}x{height}"]
        self._log = tempfile.NamedTemporaryFile(suffix=".log")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT)
        while "ready on" not in self._text():
            if self.process.poll() is not None:
                raise SystemExit(self._text())
            time.sleep(0.05)
        self.port = int(re.findall(r"running on http://127\.0\.0\.1:(\d+)", self._text())[0])
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def _text(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def processor_time(self) -> float:
        """Milliseconds that all threads have computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, field: str = "VmRSS") -> float:
        """Resident memory in MB; its peak so far with the field VmHWM."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024 / 1e6


def post(connection, photo: bytes) -> tuple[int, bytes]:
    connection.request("POST", "/segment", photo, {"Content-Type": "image/jpeg"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def timed(function, *arguments) -> float:
    started = time.perf_counter()
    function(*arguments)
    return 1000 * (time.perf_counter() - started)


def added_latency(model: Path, pairs: int) -> str:
    from tfwsss_onnx import Segmenter

    photo = jpeg(*LOAD_SIZES[0], 0)
    segmenter = Segmenter(model, "cpu", spinning=False)  # as in the service
    segmenter.warm_up([LOAD_SIZES[0]])
    with Server(model) as server:
        connection = server.connect()
        for _ in range(5):
            segmenter(photo), post(connection, photo)
        runtime: list[float] = []
        service: list[float] = []
        used = -server.processor_time()
        for index in range(pairs):
            # Each gets its turn after a pause, so that the other's worker threads have gone to sleep; first or second by turns.
            turns = [(runtime, segmenter, (photo,)), (service, post, (connection, photo))]
            for times, function, arguments in turns if index % 2 else reversed(turns):
                time.sleep(0.03)
                times.append(timed(function, *arguments))
        used = (used + server.processor_time()) / pairs
    alone = -time.process_time()
    for _ in range(pairs):
        segmenter(photo)
    alone = 1000 * (alone + time.process_time()) / pairs
    difference = [after - before for before, after in zip(runtime, service, strict=True)]
    rows = [("runtime", runtime, alone), ("service", service, used), ("service - runtime, pair by pair", difference, used - alone)]
    lines = [f"| {name} | {statistics.median(times):.1f} | {np.percentile(times, 10):.1f} | {np.percentile(times, 90):.1f} | {computed:.1f} |" for name, times, computed in rows]
    return "\n".join(["| milliseconds | median | 10 % | 90 % | processor time |", "|---|---|---|---|---|", *lines])


def warm_start(model: Path, repeats: int) -> str:
    photo = jpeg(*LOAD_SIZES[0], 0)
    ratios: dict[str, list[float]] = {"runtime": [], "service": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.jpg")
        path.write_bytes(photo)
        for _ in range(repeats):
            done = subprocess.run([sys.executable, "-c", WARM_START, str(model), str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
            times = json.loads(done.stdout)
            ratios["runtime"].append(times[0] / statistics.median(times[1:]))
            with Server(model) as server:
                connection = server.connect()
                times = [timed(post, connection, photo) for _ in range(21)]
            ratios["service"].append(times[0] / statistics.median(times[1:]))
    lines = [f"| {name} | {statistics.median(found):.2f} | {max(found):.2f} |" for name, found in ratios.items()]
    return "\n".join(["| first photo / median of the next 20 | median | worst |", "|---|---|---|", *lines])


def load(model: Path, clients: int, seconds: float) -> str:
    photos = [jpeg(height, width, seed) for seed, (height, width) in enumerate(LOAD_SIZES)]
    times: list[float] = []
    errors: list[str] = []
    memory: list[tuple[float, float]] = []
    with Server(model) as server:
        started = time.perf_counter()

        def client(number: int) -> None:
            connection = server.connect()
            turn = number
            while time.perf_counter() - started < seconds:
                turn += 1
                try:
                    begun = time.perf_counter()
                    status, body = post(connection, photos[turn % len(photos)])
                    times.append(1000 * (time.perf_counter() - begun))
                    if status != 200 or not body.startswith(b"\x89PNG"):
                        errors.append(f"{status} {body[:200]!r}")
                except OSError as error:
                    errors.append(repr(error))
                    connection = server.connect()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            memory.append((time.perf_counter() - started, server.memory()))
        elapsed = time.perf_counter() - started
        connection = server.connect()
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    counted = {name: float(re.findall(rf"^tfwsss_batch_size_{name} (\S+)$", metrics, re.MULTILINE)[0]) for name in ("sum", "count")}

    def resident(begin: float, end: float) -> float:
        return statistics.median(size for moment, size in memory if begin * seconds <= moment <= end * seconds)

    rows = [
        ("clients, seconds", f"{clients}, {elapsed:.0f}"),
        ("photos", f"{len(times)}"),
        ("errors", f"{len(errors)}"),
        ("photos per second", f"{len(times) / elapsed:.1f}"),
        ("photos that ran together, mean", f"{counted['sum'] / counted['count']:.1f}"),
        ("latency, median and 99 %", f"{statistics.median(times):.0f} and {np.percentile(times, 99):.0f} ms"),
        ("memory, second quarter and last quarter", f"{resident(0.25, 0.5):.0f} and {resident(0.75, 1.0):.0f} MB"),
    ]
    for error in errors[:5]:
        print(error, file=sys.stderr)
    return "\n".join(["| load | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="an exported .onnx file (default: MobileNetV2, 20 classes, random weights)")
    parser.add_argument("--pairs", type=int, default=100, help="photos for the added latency (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes for the warm start (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", nargs="+", choices=("latency", "warm", "load"), default=("latency", "warm", "load"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            model = Path(folder, "model.onnx")
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([sys.executable, "-c", EXPORT.format(path=str(model))], cwd=ROOT, env=environment, check=True, capture_output=True)
        tables = {
            "latency": lambda: added_latency(model, arguments.pairs),
            "warm": lambda: warm_start(model, arguments.starts),
            "load": lambda: load(model, arguments.clients, arguments.seconds),
        }
        for name in arguments.only:
            print(tables[name](), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
