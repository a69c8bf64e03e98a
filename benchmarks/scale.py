"""What the executor on Ray costs: its rate beside that of the threads of one process, and the memory of the command.

    python benchmarks/scale.py overhead --photos 500
    python benchmarks/scale.py memory --photos 10000

`overhead` runs the stages cams, affinity_labels and pseudo_labels on generated scenes with both executors by turns, in one command
each time, on a Ray cluster of this machine with one process for all cores. It prints photos/s of each stage, as the stage itself takes
its time, and of the command with all that it starts, and their ratios; the first stage that needs them starts Ray and TensorFlow. `memory` runs affinity_labels on small photos whose CAMs are there,
and prints the resident memory of the command at each tenth of the photos. FOLDER keeps the trained networks for the next call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

OUTPUTS = {"cams": ("cams",), "affinity_labels": ("affinity_labels",), "pseudo_labels": ("pseudo_labels", "walk", "label_votes")}
WHOLE = "the command"
SMALL: dict[str, Any] = {
    "model": {"backbone": "mobilenetv2", "width": 0.35, "freeze": False, "batch_norm": "train"},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 1,
    "batch_size": 8,
}


def configuration(photos: int, size: int) -> dict:
    return {
        "name": "scale",
        "data": {"format": "scenes", "train_images": photos, "val_images": 4, "size": size},
        "classifier": SMALL | {"resize_long": [size, size], "crop": 72},
        "affinitynet": SMALL | {"crop": 72, "model": SMALL["model"] | {"weights": "classifier"}},
        "affinity_labels": {"alphas": "psa-released"},
        "pseudo_labels": {"smallest_share": 0.0},
    }


def run(folder: Path, *words: str) -> subprocess.Popen:
    command = [str(Path(sys.executable).with_name("tfwsss")), *words]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, cwd=folder, env=environment)


def must(process: subprocess.Popen) -> None:
    if process.wait():
        raise SystemExit(f"exit code {process.returncode}")


def prepared(folder: Path, photos: int, size: int, until: str) -> Path:
    """The configuration in a folder where a run has come to a stage."""
    folder = folder / f"{photos}x{size}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scale.yaml"
    path.write_text(yaml.safe_dump(configuration(photos, size)))
    must(run(folder, "run", str(path), "--work-dir", "work", "--until", until))
    return folder


def clear(folder: Path, stage: str) -> None:
    """Remove what a stage has left."""
    for name in OUTPUTS[stage]:
        shutil.rmtree(folder / "work" / name, ignore_errors=True)


def overhead(folder: Path, photos: int, size: int, rounds: int) -> None:
    folder = prepared(folder, photos, size, "affinitynet")
    seconds: dict[str, dict[str, list[float]]] = {name: {"local": [], "ray": []} for name in (*OUTPUTS, WHOLE)}
    for turn in range(rounds):
        for executor in ("local", "ray") if turn % 2 == 0 else ("ray", "local"):
            for stage in OUTPUTS:
                clear(folder, stage)
            started = time.perf_counter()
            must(run(folder, "run", "scale.yaml", "--work-dir", "work", "--until", "pseudo_labels", "--set", f"runtime.executor={executor}"))
            seconds[WHOLE][executor].append(time.perf_counter() - started)
            for stage in OUTPUTS:
                seconds[stage][executor].append(json.loads((folder / "work" / stage / "stage.json").read_text())["seconds"])
    print(f"| stage, {photos} photos | local, photos/s | ray, photos/s | ray / local |\n|---|---|---|---|")
    for stage, found in seconds.items():
        local, ray = (photos / statistics.median(found[name]) for name in ("local", "ray"))
        print(f"| {stage} | {local:.2f} | {ray:.2f} | {100 * ray / local:.0f} % |")
    print(json.dumps(seconds))


def resident(process: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(folder: Path, photos: int, size: int) -> None:
    folder = prepared(folder, photos, size, "cams")
    clear(folder, "affinity_labels")
    process = run(folder, "stage", "affinity_labels", "scale.yaml", "--work-dir", "work", "--set", "runtime.executor=ray")
    threading.Thread(target=process.wait, daemon=True).start()
    labels, next_share = folder / "work/affinity_labels", 1
    while process.poll() is None:
        time.sleep(0.5)
        done = sum(path.suffix == ".png" for path in labels.rglob("*")) if labels.exists() else 0
        if done >= photos * next_share / 10:
            print(f"{done} photos: {resident(process.pid):.0f} MiB", flush=True)
            next_share += 1
    must(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "memory"])
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--size", type=int, help="pixels of a photo's side; without it 320 for overhead and 48 for memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"))
    arguments = parser.parse_args()
    if arguments.what == "overhead":
        overhead(arguments.folder.resolve(), arguments.photos, arguments.size or 320, arguments.rounds)
    else:
        memory(arguments.folder.resolve(), arguments.photos, arguments.size or 48)


if __name__ == "__main__":
    main()
