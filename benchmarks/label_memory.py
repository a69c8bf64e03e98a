"""Peak memory of every label stage, for few and for many photos.

    python benchmarks/label_memory.py                     # 100 and 10,000 photos of 32x32 pixels, some ten minutes

Photos and masks are noise, the networks a MobileNet of quarter width with random weights: what is kept of each photo between the
stages' steps would show. Each stage is a process of its own (`tfwsss run --until STAGE`); its peak resident memory is what
the kernel says when it ends.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import yaml
from PIL import Image

from tfwsss.crf import compile_engine

CLASSES = ("one", "two")
STAGES = ("data", "classifier", "cams", "affinity_labels", "affinitynet", "pseudo_labels", "label_audit", "label_scores")
TRAINED = ("classifier", "affinitynet")  # their stages take the weights as they are: nothing is trained
NETWORKS = """
import sys
from tfwsss.models import build_affinitynet, build_classifier
from tfwsss.training.loop import make_deterministic
from tfwsss.weights import save_weights
make_deterministic(0)
save_weights(build_classifier("mobilenet", 2, width=0.25, output_stride=16), sys.argv[1] + "/classifier.safetensors")
save_weights(build_affinitynet("mobilenet", width=0.25), sys.argv[1] + "/affinitynet.safetensors")
"""


def write_photos(folder: Path, count: int, side: int) -> None:
    """Photos and masks of noise in blocks, and a table of tags."""
    rng, lines = np.random.default_rng(0), ["image,tags"]
    (folder / "masks").mkdir(parents=True)
    for index in range(count):
        blocks = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(blocks).resize((side, side), Image.Resampling.BILINEAR).save(folder / f"{index:06}.png")
        Image.fromarray(rng.integers(0, 3, (4, 4)).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST).save(folder / f"masks/{index:06}.png")
        lines.append(f"{index:06}.png,{CLASSES[index % 2]}")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


def write_config(folder: Path, photos: Path, networks: Path) -> Path:
    model = {"backbone": "mobilenet", "width": 0.25, "freeze": False}
    values = {
        "name": "memory",
        "data": {"format": "folder", "root": str(photos), "classes": list(CLASSES), "mask_folder": "masks"},
        "classifier": {"model": model | {"output_stride": 16, "weights": str(networks / "classifier.safetensors")}, "epochs": 0},
        "cams": {"scales": [1.0, 0.5]},
        "affinity_labels": {"alphas": "psa-released"},
        "affinitynet": {"model": model | {"weights": str(networks / "affinitynet.safetensors")}, "epochs": 0, "crop": 72},
        "pseudo_labels": {"smallest_share": 0.0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run_stage(config: Path, work: Path, stage: str) -> tuple[float, float]:
    """(seconds, peak MiB) of the process that does this stage; earlier ones are finished."""
    log, started = work.parent / f"{stage}.log", time.perf_counter()
    with log.open("w") as messages:
        words = [sys.executable, "-m", "tfwsss_pipelines.cli", "run", str(config), "--work-dir", str(work), "--until", stage]
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{work.parent}/mlflow.db"}
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed:\n{log.read_text()[-2000:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs=2, default=[100, 10_000], help="photos (default: 100 10000)")
    parser.add_argument("--side", type=int, default=32, help="of the photos, pixels (default: %(default)s)")
    arguments = parser.parse_args()
    compile_engine()
    peaks: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", NETWORKS, folder], check=True)
        for count in arguments.count:
            place = Path(folder) / str(count)
            write_photos(place / "photos", count, arguments.side)
            config = write_config(place, place / "photos", Path(folder))
            peaks[count] = {}
            for stage in STAGES:
                seconds, peaks[count][stage] = run_stage(config, place / "work", stage)
                print(f"{count} photos, {stage}: {seconds:.0f} s, {peaks[count][stage]:.0f} MiB", file=sys.stderr, flush=True)
    few, many = arguments.count
    print(f"| stage | {few} photos, MiB | {many} photos, MiB | more for each photo, kB |\n|---|---|---|---|")
    for stage in STAGES:
        if stage not in TRAINED:
            growth = (peaks[many][stage] - peaks[few][stage]) * 1024 / (many - few)
            print(f"| {stage} | {peaks[few][stage]:.0f} | {peaks[many][stage]:.0f} | {growth:.1f} |")


if __name__ == "__main__":
    main()
