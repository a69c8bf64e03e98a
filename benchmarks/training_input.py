"""Samples per second of the segmenter's input pipeline alone, on one core and on two, and how long a sample holds Python's lock.

    python benchmarks/training_input.py voc-animals VOCdevkit/VOC2012/JPEGImages VOCdevkit/VOC2012/SegmentationClassAug

Every measurement is a process of its own that may use so many cores. For the lock, a thread that needs nothing but the lock
wakes up every fifth of a millisecond while samples are made one after the other, and counts how often it has to wait for it; a
second run with as much work that never takes the lock says how often it would be late anyway. Times mean something on an idle machine
with at least two cores only: the load is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfwsss.config.files import load_config
from tfwsss.data import Dataset
from tfwsss.data.augment import pil_filter
from tfwsss.data.dataset import Sample
from tfwsss.data.label_sources import LabelFolder
from tfwsss.models import normalization

PAUSE = 2e-4  # seconds between two looks at the lock
LATE = 1e-4  # of them, what counts as having had to wait


class Probe(threading.Thread):
    """Counts how often the lock was taken when it wanted it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.looks, self.late, self.ended = 0, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            started = time.perf_counter()
            time.sleep(PAUSE)  # without the lock; it comes back with it
            self.looks += 1
            self.late += time.perf_counter() - started > PAUSE + LATE

    def stop(self) -> float:
        """Part of the looks at which the lock was taken."""
        self.ended.set()
        self.join()
        return self.late / max(self.looks, 1)


def batches(config, photos: Path, labels: Path, count: int):
    """Endless batches, one epoch after another."""
    from tfwsss.data.inputs import segmenter_batches

    files = [file for file in sorted(photos.glob("*.jpg")) if (labels / f"{file.stem}.png").is_file()][:count]
    if not files:
        raise SystemExit(f"{photos}: no .jpg files with a label in {labels}")
    dataset = Dataset(("object",), tuple(Sample(file.stem, file, (0,)) for file in files))
    settings = config.segmenter
    for epoch in range(1 << 30):
        yield from segmenter_batches(
            dataset, LabelFolder(labels), settings, normalization(settings.model.backbone), filter=pil_filter("corrected"), seed=0, epoch=epoch
        )


def without_lock(seconds: float) -> None:
    """As long a computation that numpy does without the lock."""
    values, ended = np.random.default_rng(0).random(1 << 20), time.perf_counter() + seconds
    while time.perf_counter() < ended:
        np.sin(values, out=values)


def measure(config, photos: Path, labels: Path, cores: int, samples: int) -> dict[str, float]:
    """In this process, which must not have used TensorFlow before."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    source, size = batches(config, photos, labels, samples), config.segmenter.batch_size
    for _ in range(4):  # traces, compiles, and fills what is fetched ahead
        next(source)
    steps = -(-samples // size)
    processor, started = time.process_time(), time.perf_counter()
    for _ in range(steps):
        next(source)
    seconds, processor = time.perf_counter() - started, time.process_time() - processor
    return {"samples": steps * size / seconds, "processor": 1e3 * processor / (steps * size)}


def lock_held(config, photos: Path, labels: Path, samples: int) -> dict[str, float]:
    """In this process, with samples made one after the other; milliseconds a sample, and of as long a computation without the lock."""
    import tfwsss.data.inputs as inputs

    inputs.usable_cores = lambda: 1
    source, size = batches(config, photos, labels, samples), config.segmenter.batch_size
    for _ in range(4):
        next(source)
    steps = -(-samples // size)
    probe, started = Probe(), time.perf_counter()
    probe.start()
    for _ in range(steps):
        next(source)
    seconds, held = time.perf_counter() - started, probe.stop()
    probe = Probe()
    probe.start()
    without_lock(seconds)
    idle = probe.stop()
    a_sample = 1e3 * seconds / (steps * size)
    return {"milliseconds": a_sample, "held": held * a_sample, "late anyway": idle * a_sample}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="preset or file; its section segmenter counts")
    parser.add_argument("photos", type=Path, help="folder of JPEG photos")
    parser.add_argument("labels", type=Path, help="folder of indexed PNGs by the photos' names")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="as for tfwsss run")
    parser.add_argument("--samples", type=int, default=400, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind, in turns; the median counts (default: %(default)s)")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # what a process of its own measures
    arguments = parser.parse_args()
    if arguments.only:
        config = load_config(arguments.config, arguments.set)
        work = config, arguments.photos, arguments.labels
        found = lock_held(*work, arguments.samples) if arguments.only == "lock" else measure(*work, int(arguments.only), arguments.samples)
        print(json.dumps(found))
        return
    results: dict[str, list[dict[str, float]]] = {"1": [], "2": [], "lock": []}
    for _ in range(arguments.rounds):
        for kind, all_of_it in results.items():
            done = subprocess.run([sys.executable, *sys.argv, "--only", kind], check=True, stdout=subprocess.PIPE, text=True)
            all_of_it.append(json.loads(done.stdout.splitlines()[-1]))

    def median(kind: str, name: str) -> float:
        return float(np.median([one[name] for one in results[kind]]))

    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores\n")
    print("| cores | samples/s | processor ms a sample |\n|---|---|---|")
    for kind in ("1", "2"):
        print(f"| {kind} | {median(kind, 'samples'):.1f} | {median(kind, 'processor'):.1f} |")
    print(f"\nOn two cores {median('2', 'samples') / median('1', 'samples'):.2f} times as many.")
    held, anyway = median("lock", "held"), median("lock", "late anyway")
    print(f"A sample takes {median('lock', 'milliseconds'):.1f} ms and holds Python's lock for {held - anyway:.2f} ms (late {held:.2f} ms, without the lock {anyway:.2f} ms).")


if __name__ == "__main__":
    main()
