"""What benchmarks/gpu.sh measures, once everything is installed; needs numpy, Pillow and onnxruntime alone.

    python benchmarks/gpu/measure.py FOLDER               # FOLDER as benchmarks/gpu/models.py has filled it

Prints one Markdown table for docs/performance.md. Everything that needs a GPU says "not on a processor" without one. Parts that a
machine lacks (TensorRT, the HTTP service's packages, TensorFlow with CUDA) have a row that says so. No part is begun after `--minutes`.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from tfwsss_onnx import Segmenter
from tfwsss_onnx.bound_run import BoundRun
from tfwsss_onnx.errors import DeviceError
from tfwsss_onnx.providers import connect

PRECISIONS = ("fp32", "fp16")
DTYPE = {"fp32": np.float32, "fp16": np.float16}
REFUSED = "from tfwsss_onnx import Segmenter\nfrom tfwsss_onnx.errors import DeviceError\nimport sys\ntry:\n    Segmenter(sys.argv[1], 'cuda')\nexcept DeviceError as error:\n    print('refused:', error)\n"

Row = tuple[str, str, str]  # what, how, figure


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth regions with texture, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(small) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Median time of as many calls as fit, five at least, after two for warming up."""
    call()
    call()
    taken: list[float] = []
    ended = time.perf_counter() + seconds
    while time.perf_counter() < ended or len(taken) < 5:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def card() -> str:
    """Name and driver of the first GPU, or the processor's."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return platform.processor() or platform.machine()


def matrix_rate(folder: Path, device: str, precision: str, side: int, seconds: float) -> float:
    """FLOP/s of a product of matrices that stay on the device."""
    session, where = connect(folder / f"product.{precision}.onnx", device)
    matrix = np.random.default_rng(0).standard_normal((side, side)).astype(DTYPE[precision])
    binding = session.io_binding()
    for name in ("a", "b"):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(matrix, where, 0))
    binding.bind_output("c", where, 0)

    def call() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return 2 * side**3 / median_seconds(call, seconds)


def _run(session, images: np.ndarray) -> np.ndarray:
    return session.run(["mask"], {"images": images})[0]


def speeds(folder: Path, device: str, facts: dict, rates: dict[str, float], batches: list[int], seconds: float) -> Iterator[Row]:
    for precision in PRECISIONS:
        session, where = connect(folder / f"model.{precision}.onnx", device)
        runs: dict[str, Callable] = {"copies": partial(_run, session), "I/O binding": partial(BoundRun(session, where), "mask")}
        for batch in batches:
            images = np.stack([photo(facts["height"], facts["width"], seed) for seed in range(batch)])
            for way, run in runs.items():
                taken = median_seconds(partial(run, images), seconds) / batch
                share = 100 * facts["flops"] / taken / rates[precision]
                yield f"ONNX Runtime {precision}, batch {batch}", way, f"{1e3 * taken:.2f} ms a photo, {1 / taken:.0f} photos/s, {share:.0f} % of the matrix rate"


def costliest(folder: Path, device: str, facts: dict, small: bool) -> Iterator[Row]:
    """The kinds of operations that take the most time of batch 1, with the provider that runs them."""
    for precision in PRECISIONS:
        words = [sys.executable, str(Path(__file__).with_name("operations.py")), str(folder / f"model.{precision}.onnx"), "--device", device]
        words += ["--size", f"{facts['height']}x{facts['width']}", "--runs", "2" if small else "20"]
        done = subprocess.run(words, env=os.environ | {"CUDA_LAUNCH_BLOCKING": "1"}, capture_output=True, text=True)
        if done.returncode:
            found = f"not there: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:150]}"
        else:
            found = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in list(json.loads(done.stdout.splitlines()[-1]).items())[:8])
        yield f"operations of {precision}, batch 1", "each waited for", found


def parity(folder: Path, device: str, facts: dict, photos: int) -> Iterator[Row]:
    reference = Segmenter(folder / "model.fp32.onnx", "cpu")
    images = [photo(facts["height"], facts["width"], 100 + seed) for seed in range(photos)]
    expected = [reference(image) for image in images]
    for precision in PRECISIONS:
        segmenter = Segmenter(folder / f"model.{precision}.onnx", device)
        equal = np.mean([np.mean(segmenter(image) == mask) for image, mask in zip(images, expected, strict=True)])
        yield f"masks of {precision}", f"{photos} photos, against fp32 on the processor", f"{100 * equal:.3f} % of the pixels equal"


def refusal(folder: Path) -> Row:
    """With the GPUs hidden, `device="cuda"` must not run on the processor in silence."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", REFUSED, str(folder / "model.fp32.onnx")], env=environment, capture_output=True, text=True)
    found = "refused" if "\nrefused:" in f"\n{done.stdout}" else f"NOT refused: {(done.stdout + done.stderr).strip()[-200:]}"
    return "`device=cuda` without a GPU", "GPUs hidden by CUDA_VISIBLE_DEVICES", found


def tensorrt(folder: Path, facts: dict, seconds: float) -> Row:
    try:
        started = time.perf_counter()
        segmenter = Segmenter(folder / "model.fp16.onnx", "tensorrt", engine_cache=folder / "tensorrt")
        image = photo(facts["height"], facts["width"], 0)
        segmenter(image)
        compiled = time.perf_counter() - started
    except DeviceError as error:
        return "TensorRT fp16, batch 1", "", f"not there: {str(error).splitlines()[0][:120]}"
    taken = median_seconds(lambda: segmenter(image), seconds)
    return "TensorRT fp16, batch 1", f"compiled in {compiled:.0f} s", f"{1e3 * taken:.2f} ms a photo, {1 / taken:.0f} photos/s"


def _ask(port: int, body: bytes, ended: float, latencies: list[float], failures: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while time.perf_counter() < ended:
        started = time.perf_counter()
        try:
            connection.request("POST", "/segment", body, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            failures.append(0)
            return
        if answer.status == 200:
            latencies.append(time.perf_counter() - started)
        else:
            failures.append(answer.status)


def service(folder: Path, device: str, facts: dict, clients: int, seconds: float) -> Row:
    what, how = f"HTTP service fp32, {clients} clients", f"photos of {facts['height']}x{facts['width']} as JPEG"
    code = "from tfwsss_onnx.http_service.command import main; main()"
    words = [sys.executable, "-c", code, str(folder / "model.fp32.onnx"), "--port", "0", "--device", device, "--warm-up", f"{facts['width']}x{facts['height']}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, port, ready = "", None, False
        for line in process.stdout or ():
            said = line.strip() or said
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
            ready = ready or "ready on" in line
            if port is not None and ready:
                break
        else:
            return what, how, f"does not start: {said[-150:]}"
        last: deque[str] = deque([said], maxlen=3)
        threading.Thread(target=lambda: last.extend(line.strip() for line in process.stdout or ()), daemon=True).start()
        file = io.BytesIO()
        Image.fromarray(photo(facts["height"], facts["width"], 0)).save(file, "JPEG", quality=90)
        latencies: list[float] = []
        failures: list[int] = []
        ended = time.perf_counter() + seconds
        threads = [threading.Thread(target=_ask, args=(port, file.getvalue(), ended, latencies, failures)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not latencies:
            return what, how, f"no answer; statuses {sorted(set(failures))}, exit code {process.poll()}, the last that it said: {' / '.join(last)[-400:]}"
        median, slow = np.percentile(latencies, [50, 99])
        return what, how, f"{len(latencies) / seconds:.0f} photos/s, median {1e3 * median:.0f} ms, 99 % {1e3 * slow:.0f} ms, {len(failures)} errors"
    finally:
        process.terminate()
        process.wait()


def training(small: bool, device: str) -> Iterator[Row]:
    words = [sys.executable, str(Path(__file__).with_name("training.py")), "--device", device, *(["--small"] if small else [])]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        yield "TensorFlow: cams, walk, training step", "", f"not there: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:150]}"
        return
    for row in json.loads(done.stdout.splitlines()[-1]):
        what, how, figure = row
        yield what, how, figure


def rows(arguments, facts: dict, device: str, late: Callable[[], bool]) -> Iterator[Row]:
    seconds, small = arguments.seconds, arguments.small
    side = arguments.side or (8192 if device == "cuda" else 1024)
    rates = {}
    for precision in PRECISIONS:
        rates[precision] = matrix_rate(arguments.folder, device, precision, side, seconds)
        yield f"matrix product {precision}", f"{side} x {side}, ONNX Runtime", f"{rates[precision] / 1e12:.2f} TFLOP/s"
    yield refusal(arguments.folder)
    yield from parity(arguments.folder, device, facts, 2 if small else 8)
    yield from speeds(arguments.folder, device, facts, rates, arguments.batch, seconds)
    yield from costliest(arguments.folder, device, facts, small)
    parts: list[Callable[[], Iterator[Row]]] = [
        lambda: iter([service(arguments.folder, device, facts, 2 if small else 32, max(4 * seconds, 1.0))]),
        lambda: iter([tensorrt(arguments.folder, facts, seconds) if device == "cuda" else ("TensorRT fp16, batch 1", "", "not on a processor")]),
        lambda: training(small, device),
    ]
    for part in parts:
        if late():
            yield "left out", "", f"{arguments.minutes:g} minutes are over"
            return
        yield from part()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16, 64], help="photos that run together (default: 1 4 16 64)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part is begun any more (default: %(default)s)")
    parser.add_argument("--side", type=int, help="of the square matrices (8192 on a GPU, 1024 on a processor)")
    parser.add_argument("--small", action="store_true", help="few photos, few clients, small networks: to see that everything runs")
    arguments = parser.parse_args()
    started = time.perf_counter()
    facts = json.loads((arguments.folder / "facts.json").read_text())
    device = "cuda" if connect(arguments.folder / "model.fp32.onnx", "auto")[1] == "cuda" else "cpu"
    where = card()
    print(f"{where}; onnxruntime {onnxruntime.__version__}; {facts['model']}, {facts['height']}x{facts['width']}, {facts['flops'] / 1e9:.1f} GFLOP a photo\n")
    if device == "cpu":
        print("**Measured on a processor, not on a GPU.**\n")
    print(f"| {'GPU' if device == 'cuda' else 'CPU, no GPU'} | how | figure |\n|---|---|---|")
    for row in rows(arguments, facts, device, lambda: time.perf_counter() - started > 60 * arguments.minutes):
        print("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |", flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()
