"""Time of the two engines of the dense CRF on the affinity labels' work: scores for two background exponents of one photo.

    python benchmarks/crf_engines.py VOCdevkit/VOC2012/JPEGImages

Needs pydensecrf (`pip install -e ".[pydensecrf]"`). Scores are smooth random maps. Every photo meets both engines in turn;
the factor is the median over photos of the ratio of processor time, which other load disturbs little. Photos per second in
one and two threads are wall-clock time and mean something on an idle machine only: the load is printed.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from tfwsss.config import Crf
from tfwsss.crf import ENGINES, compile_engine, crf_scores_of_alphas
from tfwsss.processes import usable_cores

ALPHAS = (4, 32)
THREADS = (1, 2)


def score_maps(height: int, width: int, classes: int, rng) -> np.ndarray:
    """Smooth class maps [K, H, W] in 0..1."""
    maps = np.stack([gaussian_filter(rng.standard_normal((height, width)), 25) for _ in range(classes)])
    return np.clip(maps / maps.max(axis=(1, 2), keepdims=True), 0, 1).astype(np.float32)


def refine(engine: str, image, cam) -> np.ndarray:
    return crf_scores_of_alphas(range(len(cam)), cam, ALPHAS, image, Crf(engine=engine))


def processor_time(images, labels: int) -> str:
    """A row of the first table."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    wall: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    difference, equal = 0.0, []
    for image in images:
        cam = score_maps(image.shape[0], image.shape[1], labels - 1, rng)
        results = {}
        for engine in ENGINES:
            processor, clock = time.process_time(), time.perf_counter()
            results[engine] = refine(engine, image, cam)
            seconds[engine].append(time.process_time() - processor)
            wall[engine].append(time.perf_counter() - clock)
        difference = max(difference, float(np.abs(results["numba"] - results["pydensecrf"]).max()))
        equal.append((results["numba"].argmax(axis=1) == results["pydensecrf"].argmax(axis=1)).mean())
    factor = np.median(np.divide(seconds["pydensecrf"], seconds["numba"]))
    ours, theirs = (f"{1e3 * np.median(seconds[e]):.0f} | {1e3 * np.median(wall[e]):.0f}" for e in ("numba", "pydensecrf"))
    return f"| {labels} | {theirs} | {ours} | {factor:.1f} | {difference:.0e} | {100 * np.mean(equal):.3f} % |"


def throughput(engine: str, images, threads: int) -> tuple[float, float]:
    """Photos per second, and processor seconds per photo, with three labels."""
    rng = np.random.default_rng(0)
    work = [(image, score_maps(image.shape[0], image.shape[1], 2, rng)) for image in images]
    processor, clock = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda one: refine(engine, *one), work))
    return len(work) / (time.perf_counter() - clock), (time.process_time() - processor) / len(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of JPEG photos")
    parser.add_argument("--photos", type=int, default=20, help="evenly spaced ones of the folder (default: %(default)s)")
    parser.add_argument("--labels", type=int, nargs="+", default=[2, 3, 5, 21], help="labels, background included (default: %(default)s)")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("*.jpg"))
    chosen = np.unique(np.linspace(0, len(files) - 1, min(arguments.photos, len(files))).round().astype(int))
    images = [np.asarray(Image.open(files[index]).convert("RGB")) for index in chosen]
    pixels = np.median([image.shape[0] * image.shape[1] for image in images])
    print(f"compiled in {compile_engine():.1f} s (0: found on the disk); {len(images)} photos of {pixels:.0f} pixels in the median")
    refine("numba", images[0], score_maps(images[0].shape[0], images[0].shape[1], 1, np.random.default_rng(0)))

    print("\n| labels | pydensecrf: processor, ms | wall | numba: processor, ms | wall | factor | largest difference | equal labels |\n|---|---|---|---|---|---|---|---|")
    for labels in arguments.labels:
        print(processor_time(images, labels), flush=True)

    print(f"\nload {os.getloadavg()[0]:.1f} on {usable_cores()} cores\n")
    print("| engine, 3 labels | photos/s, 1 thread | 2 threads | factor | processor ms a photo, 1 thread | 2 threads |\n|---|---|---|---|---|---|")
    for engine in ENGINES:
        (one, first), (two, second) = (throughput(engine, images, threads) for threads in THREADS)
        print(f"| {engine} | {one:.1f} | {two:.1f} | {two / one:.2f} | {1e3 * first:.0f} | {1e3 * second:.0f} |", flush=True)


if __name__ == "__main__":
    main()
