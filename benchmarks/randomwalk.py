"""Time and error of the ways to compute the random walk.

    python benchmarks/randomwalk.py                          # grid of a 375 x 500 photo
    python benchmarks/randomwalk.py --grid 128x128 --repeats 1
    python benchmarks/randomwalk.py --grid 47x63 94x125 188x250 375x500 --channels 3 --ways "chebyshev, stencil"

Prints a Markdown table: best time of `--repeats` calls on one photo, how many times faster than "dense", by how much the process grew
meanwhile (Linux only), and the largest error against a float64 walk by shifted arrays, relative to the largest score; for several
grids the exponents of time over cells.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tfwsss.affinity import pair_affinity, pair_offsets
from tfwsss.randomwalk import random_walk

WAYS: dict[str, dict[str, Any]] = {
    "dense": {"method": "dense"},
    "sparse": {"method": "sparse"},
    "chebyshev, tf.sparse": {"method": "chebyshev", "engine": "tensorflow"},
    "chebyshev, stencil": {"method": "chebyshev", "engine": "stencil"},
}


def exact_walk(affinity: np.ndarray, cam: np.ndarray, radius: int, beta: float, steps: int) -> np.ndarray:
    """Float64 walk over all pairs without any matrix. affinity [P, h, w], cam [h, w, C]."""
    height, width, _ = cam.shape
    pairs = []
    for (dy, dx), values in zip(pair_offsets(radius), affinity.astype(np.float64) ** beta, strict=True):
        source = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        target = slice(dy, height), slice(max(0, dx), width - max(0, -dx))
        pairs.append((source, target, values[source][..., None]))

    def multiply(scores):
        result = scores.copy()
        for source, target, weight in pairs:
            result[source] += weight * scores[target]
            result[target] += weight * scores[source]
        return result

    scores = cam.astype(np.float64)
    rows = multiply(np.ones((height, width, 1)))
    for _ in range(steps):
        scores = multiply(scores) / rows
    return scores


def smooth_affinity(height: int, width: int, radius: int) -> tf.Tensor:
    """Affinities of piecewise constant features with noise: regions with edges between them."""
    rng = np.random.default_rng(0)
    regions = rng.standard_normal((1, 5, 6, 16)).astype(np.float32)
    features = tf.image.resize(regions, (height, width), "nearest") + 0.1 * rng.standard_normal((height, width, 16))
    return pair_affinity(features, radius, border="full")


def _memory(field: str) -> float:
    """MiB of this process that the kernel calls VmRSS (now) or VmHWM (most since the last reset)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def growth(call: Callable[[], object]) -> float:
    """By how many MiB the process grew at most during a call; NaN where the kernel does not say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        call()
        return _memory("VmHWM") - before
    except OSError:
        return float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", nargs="+", default=["47x63"], help="height x width in cells (default: 47x63)")
    parser.add_argument("--channels", type=int, nargs="+", default=[3, 21])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--radius", type=int, default=5)
    parser.add_argument("--beta", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = "GPU" if tf.config.list_physical_devices("GPU") else f"CPU, {os.cpu_count()} cores"
    print(f"radius {arguments.radius}, {arguments.steps} steps, {device}\n")
    print("| cells | channels | way | seconds | faster than dense | more memory, MiB | largest error |")
    print("|---|---|---|---|---|---|---|")
    times: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for grid in arguments.grid:
        height, width = (int(side) for side in grid.split("x"))
        affinity = smooth_affinity(height, width, arguments.radius)
        for channels in arguments.channels:
            cam = np.random.default_rng(1).random((1, height, width, channels)).astype(np.float32)
            exact = exact_walk(affinity[0].numpy(), cam[0], arguments.radius, arguments.beta, arguments.steps)
            dense = None
            for way in arguments.ways:
                settings: dict[str, Any] = {name: getattr(arguments, name) for name in ("radius", "beta", "steps", "tolerance")}
                walk = partial(random_walk, affinity, cam, **WAYS[way], **settings)
                more = growth(walk)  # also builds the grid's pair lists and traces
                seconds = []
                for _ in range(arguments.repeats):
                    start = time.perf_counter()
                    walked = walk().numpy()
                    seconds.append(time.perf_counter() - start)
                best = min(seconds)
                times.setdefault((way, channels), []).append((height * width, best))
                if way == "dense":
                    dense = best
                ratio = f"{dense / best:.1f}x" if dense else "-"
                error = np.abs(walked[0] - exact).max() / np.abs(cam).max()
                print(f"| {grid} | {channels} | {way} | {best:.4f} | {ratio} | {more:.0f} | {error:.1e} |", flush=True)
    if len(arguments.grid) > 1:
        print("\nExponent of seconds over cells:\n")
        for (way, channels), points in times.items():
            cells, taken = np.log(np.array(points)).T
            print(f"* {way}, {channels} channels: {np.polyfit(cells, taken, 1)[0]:.2f}")


if __name__ == "__main__":
    main()
