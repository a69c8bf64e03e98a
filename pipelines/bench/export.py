"""`tfwsss bench-export`: how fast every artefact of a segmenter is on this machine, and how near to what the machine can.

Each artefact runs in a fresh process (peak memory is its own). Rounds are interleaved: in a round every artefact has its
turn, so that other load on the machine meets all alike; factors are medians of the rounds' ratios. The limit is the rate
of large matrix products in ONNX Runtime, measured in the same rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfwsss import __version__
from tfwsss.config import Config
from tfwsss.errors import StageError
from tfwsss.processes import usable_cores
from tfwsss.storage.atomic import write_json
from tfwsss_onnx.segmenter import WARM_UP_RUNS

from ..engine.progress import console
from ..engine.startup import load_tensorflow
from .table import summary, table

# Requests of a size before the first that counts: as many as `Segmenter.warm_up` sends; TensorFlow Serving sends those in
# the SavedModel, of each kind one for a photo.
WARM_UP = {"onnx": WARM_UP_RUNS, "saved_model": 1, "keras": 1}
PRECISIONS: dict[Literal["fp32", "fp16", "int8"], str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}


@dataclass(frozen=True)
class Artefact:
    """`name` as in the table; `kind` and `path` as `tfwsss_pipelines.bench.worker` takes them; `precision` of its arithmetic."""

    name: str
    kind: str
    path: Path
    precision: str


@dataclass(frozen=True)
class Case:
    """One shape of the input."""

    batch: int
    height: int
    width: int


def find_artefacts(work: Path) -> list[Artefact]:
    """What a finished run has to offer.

    Raises:
        StageError: the run has no trained segmenter or no ONNX file.
    """
    weights = work / "segmenter/weights.safetensors"
    if not weights.is_file() or not (work / "export" / PRECISIONS["fp32"]).is_file():
        raise StageError(f"{work}: found no segmenter/weights.safetensors with export/{PRECISIONS['fp32']}; run the stage export first, or measure --untrained")
    versions = [path for path in (work / "export/saved_model").glob("*") if path.name.isdecimal()]
    found = [Artefact("Keras predict", "keras", weights, "fp32")]
    found += [Artefact("SavedModel", "saved_model", max(versions, key=lambda path: int(path.name)), "fp32")] if versions else []
    paths = {precision: work / "export" / name for precision, name in PRECISIONS.items()}
    return found + [Artefact(f"ONNX {precision}", "onnx", path, precision) for precision, path in paths.items() if path.is_file()]


def export_untrained(config: Config, work: Path) -> None:
    """Export the configuration's segmenter with random weights into a work directory: its speed is that of a trained one."""
    load_tensorflow()
    import keras

    from tfwsss.export import export_onnx, export_saved_model
    from tfwsss.export.parity_keras import smooth_image
    from tfwsss.models import build_segmenter, normalization
    from tfwsss.weights import save_weights

    from ..stages.train import model_arguments

    settings = config.segmenter
    classes = config.data.classes or tuple(f"class {number}" for number in range(1, 21))
    keras.utils.set_random_seed(config.seed)
    model = build_segmenter(settings.model.backbone, len(classes), head=settings.head, **model_arguments(settings.model, config.switches.dropout))
    save_weights(model, work / "segmenter/weights.safetensors")
    shared: dict[str, Any] = {"class_names": classes, "normalization": normalization(settings.model.backbone), "scales": config.export.scales, "flip": config.export.flip}
    export_saved_model(model, work / "export/saved_model", **shared)
    photos = [smooth_image(np.random.default_rng(seed), 256, 320) for seed in range(4)]
    for precision, name in PRECISIONS.items():
        export_onnx(model, work / "export" / name, precision=precision, calibration_images=photos, opset=config.export.opset, **shared)


class _Worker:
    """A process of `tfwsss_pipelines.bench.worker`."""

    def __init__(self, kind: str, path: Path, device: str, threads: int):
        hidden = {} if device == "cuda" else {"CUDA_VISIBLE_DEVICES": "-1"}
        environment = {**os.environ, **hidden, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "tfwsss_pipelines.bench.worker", kind, str(path), device, str(threads)]
        self._errors = tempfile.TemporaryFile("w+")
        self._process = process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment)
        assert process.stdin is not None and process.stdout is not None  # as asked for
        self._requests, self._answers = process.stdin, process.stdout
        self._what = f"{kind} {path}"

    def wait(self) -> None:
        """Until it has loaded what it measures."""
        self._answer()

    def _answer(self) -> dict:
        line = self._answers.readline()
        if not line:
            self._errors.seek(0)
            raise StageError(f"{self._what}: the process ended: {self._errors.read().strip()[-1500:]}")
        return json.loads(line)

    def ask(self, **request) -> dict:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return self._answer()

    def close(self) -> None:
        self._requests.close()
        self._process.wait()
        self._answers.close()
        self._errors.close()


def _machine(device: str, threads: int) -> dict:
    model = "unknown"
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        model = found.group(1) if found else model
    facts = {"cpu": model, "cores": os.cpu_count(), "threads": threads, "device": device, "python": platform.python_version(), "tfwsss": __version__}
    if device == "cuda":
        cards = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
        facts["gpu"] = cards.stdout.strip()
    return facts


def start_up(artefact: Artefact, case: Case, device: str, threads: int, starts: int) -> dict:
    """Of fresh processes: the first request, the first after the warm-up, and the median of later ones, seconds (medians)."""
    first, warmed, steady = [], [], []
    for _ in range(starts):
        worker = _Worker(artefact.kind, artefact.path, device, threads)
        worker.wait()
        taken = [seconds for _ in range(6) for seconds in worker.ask(**vars(case), seconds=0)["seconds"]]
        worker.close()
        first.append(taken[0])
        warm = WARM_UP[artefact.kind]
        warmed.append(taken[warm])
        steady.append(statistics.median(taken[warm + 1 :]))
    ratios = [late / usual for late, usual in zip(warmed, steady, strict=True)]
    return {"first": statistics.median(first), "first_warmed": statistics.median(warmed), "steady": statistics.median(steady), "warmed_to_steady": statistics.median(ratios)}


def measure(work: Path, cases: list[Case], *, device: str = "cpu", threads: int = 0, rounds: int = 7, seconds: float = 0.5, starts: int = 3) -> dict:
    """Measure every artefact of a work directory on every case.

    Args:
        device: "cpu" or "cuda".
        threads: for one request; 0: one per core.
        rounds, seconds: turns of each artefact, and how long a turn is at least.
        starts: fresh processes per artefact for the start-up figures.

    Returns:
        `machine`, `limit` (FLOP/s by precision, best and per round), `cases` with figures per artefact, `start`.

    Raises:
        StageError: nothing to measure, or an artefact does not run on the device.
    """
    import onnx

    load_tensorflow()  # quietly, before the package that imports it
    from tfwsss.export.flops import count_flops

    threads = threads or usable_cores()
    artefacts = find_artefacts(work)
    fp32 = onnx.load(work / "export" / PRECISIONS["fp32"])
    load = os.getloadavg()
    result: dict = {"machine": _machine(device, threads), "rounds": rounds, "seconds": seconds, "cases": [], "start": {}}
    with contextlib.ExitStack() as stack:
        limit, workers = _Worker("limit", Path("-"), device, threads), {}
        stack.callback(limit.close)
        for artefact in artefacts:
            workers[artefact] = _Worker(artefact.kind, artefact.path, device, threads)
            stack.callback(workers[artefact].close)
        for worker in (limit, *workers.values()):  # they load side by side
            worker.wait()
        limits: list[dict] = []
        for case in cases:
            console.print(f"  {case.batch} x {case.height}x{case.width}")
            for worker in workers.values():
                worker.ask(**vars(case), seconds=0)  # traces, allocates, warms up
            taken: dict[str, list[list[float]]] = {artefact.name: [] for artefact in artefacts}
            peaks = dict.fromkeys(taken, 0.0)
            busy: dict[str, list[float]] = {name: [] for name in taken}
            for _ in range(rounds):
                limits.append(limit.ask(seconds=seconds / 4))
                for artefact, worker in workers.items():
                    answer = worker.ask(**vars(case), seconds=seconds)
                    taken[artefact.name].append(answer["seconds"])
                    peaks[artefact.name] = max(peaks[artefact.name], answer["peak_mb"])
                    busy[artefact.name].append(answer["cpu_seconds"])
            result["cases"].append({**vars(case), "flops": count_flops(fp32, case.height, case.width), "taken": taken, "peaks": peaks, "busy": busy})
    best = {precision: max(found[precision] for found in limits) for precision in limits[0]}
    result["limit"] = {"best": best, "rounds": limits}
    for case in result["cases"]:
        taken, peaks, busy = case.pop("taken"), case.pop("peaks"), case.pop("busy")
        references = {name: taken[name] for name in ("Keras predict", "ONNX fp32")}
        case["artefacts"] = {
            artefact.name: {
                **summary(taken[artefact.name], references, batch=case["batch"], flops=case["flops"], limit=best.get(artefact.precision, best["fp32"])),
                "cpu_ms": 1e3 * statistics.median(busy[artefact.name]),
                "peak_mb": peaks[artefact.name],
            }
            for artefact in artefacts
        }
    for artefact in artefacts if starts else []:
        console.print(f"  start-up of {artefact.name}")
        result["start"][artefact.name] = start_up(artefact, cases[0], device, threads, starts)
    result["machine"]["load_average"] = {"before": load, "after": os.getloadavg()}
    return result


def _case(size: str, batch: int) -> Case:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if not found:
        raise StageError(f"size: found {size!r}, expected HEIGHTxWIDTH, for example 375x500")
    return Case(batch, int(found.group(1)), int(found.group(2)))


def bench(config: Config, *, untrained: bool, sizes, batches, device: str, threads: int, rounds: int, starts: int, output=None) -> str:
    """Measure a configuration's artefacts; returns the table, and writes all figures to the JSON file `output`.

    Raises:
        StageError: see `measure`; a wrong size or device.
    """
    if device not in ("cpu", "cuda"):
        raise StageError(f"device: found {device!r}, expected cpu or cuda")
    cases = [_case(size, batch) for size in sizes for batch in batches]
    with tempfile.TemporaryDirectory() as folder:
        if untrained:
            export_untrained(config, Path(folder))
        model = config.segmenter.model
        result = {"model": {**model.model_dump(), "head": config.segmenter.head, "trained": not untrained}}
        result |= measure(Path(folder) if untrained else config.work_dir, cases, device=device, threads=threads, rounds=rounds, starts=starts)
    if output is not None:
        write_json(output, result)
    return f"{model.backbone}, width {model.width:g}, output stride {model.output_stride}, batch_norm {model.batch_norm}\n\n{table(result)}"
