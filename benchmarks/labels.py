"""Seconds that the label stages take, beside the reference's algorithm and, if wanted, beside an older checkout.

    python benchmarks/labels.py CONFIG RUN PHOTOS                        # RUN: work directory with both trained networks
    python benchmarks/labels.py CONFIG RUN PHOTOS --older OLD/.venv/bin/python --older-tree OLD

Copies of the photos in PHOTOS (a folder of JPEGs) are scaled to each long side and tagged with two classes each, nothing is
scored, and `tfwsss run --until pseudo_labels` runs on them with the networks of RUN. Variants take turns; each is a process of
its own. `reference` is the present code with the method of the authors' code: dense matrix powers, CAMs at the photo's size,
pydensecrf (where it is installed), one thread. Prints Markdown: seconds of each stage, photos per second, factors, where the time
of ours goes, peak memory, and the exponent of time over photos.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tfwsss.config.files import load_config
from tfwsss.crf import compile_engine

STAGES = ("cams", "affinity_labels", "pseudo_labels")
REFERENCE = {"cams.stride": 1, "pseudo_labels.method": "dense", "runtime.workers": 1}


def write_photos(source: Path, target: Path, count: int, long_side: int, classes: list[str]) -> None:
    """`count` photos of one long side and a table of tags."""
    target.mkdir(parents=True)
    files = sorted(source.glob("*.jpg"))
    if not files:
        raise SystemExit(f"{source}: no .jpg files")
    lines = ["image,tags"]
    for index in range(count):
        with Image.open(files[index % len(files)]) as photo:
            factor = long_side / max(photo.size)
            size = (round(photo.width * factor), round(photo.height * factor))
            photo.convert("RGB").resize(size).save(target / f"{index:06}.jpg", quality=92)
        lines.append(f"{index:06}.jpg,{classes[index % len(classes)]}|{classes[(index + 1) % len(classes)]}")
    (target / "tags.csv").write_text("\n".join(lines) + "\n")


def write_config(config: str, run: Path, photos: Path, path: Path) -> list[str]:
    """A configuration that takes both networks as they are. Returns the classes."""
    loaded = load_config(config)
    values: dict[str, Any] = {}
    for name in ("classifier", "affinitynet"):
        model = getattr(loaded, name).model.model_dump(mode="json") | {"weights": str(run.resolve() / name / "weights.safetensors")}
        values[name] = {"epochs": 0, "model": model}
    for name in ("cams", "affinity_labels"):
        values[name] = getattr(loaded, name).model_dump(mode="json", exclude_defaults=True)
    classes = list(loaded.data.classes or ())
    if not classes:
        raise SystemExit(f"{config}: expected data.classes, which name the classifier's outputs")
    values |= {"name": "benchmark", "data": {"format": "folder", "root": str(photos), "classes": classes}}
    path.write_text(yaml.safe_dump(values))
    return classes


def run_stages(command: list[str], tree: Path, config: Path, work: Path, settings: dict) -> tuple[dict[str, float], float]:
    """({stage: seconds}, peak GiB of the process) of one run."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{work}.db", "TF_CPP_MIN_LOG_LEVEL": "3"}
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    log = Path(f"{work}.log")
    with log.open("w") as messages:
        words = [*command, "run", str(config), "--work-dir", str(work), "--until", "pseudo_labels", *overrides]
        process = subprocess.Popen(words, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    seconds = {stage: json.loads((work / stage / "stage.json").read_text())["seconds"] for stage in STAGES}
    return seconds, usage.ru_maxrss / 2**20


def time_by_kind(work: Path) -> dict[str, dict[str, float]]:
    """{stage: {kind of work: seconds}} of a run of the present code."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{work}.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    metrics = {name: value for run in runs for name, value in run.data.metrics.items() if name.startswith("seconds/")}
    return {stage: {name.split("/")[2]: value for name, value in metrics.items() if name.split("/")[1] == stage} for stage in STAGES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="preset or file of the run")
    parser.add_argument("run", type=Path, help="its work directory")
    parser.add_argument("photos", type=Path, help="folder of JPEG photos")
    parser.add_argument("--count", type=int, nargs="+", default=[25, 100], help="photos (default: 25 100)")
    parser.add_argument("--long-side", type=int, nargs="+", default=[250, 500], help="pixels (default: 250 500)")
    parser.add_argument("--older", type=Path, help="Python of an older checkout's environment")
    parser.add_argument("--older-tree", type=Path, help="folder of that checkout")
    parser.add_argument("--older-module", default="pipelines.cli", help="its command line (default: pipelines.cli)")
    parser.add_argument("--without-reference", action="store_true", help="leave the reference's algorithm out")
    arguments = parser.parse_args()
    variants: dict[str, tuple[list[str], Path, dict[str, Any]]] = {"ours": ([sys.executable, "-m", "tfwsss_pipelines.cli"], Path.cwd(), {})}
    if not arguments.without_reference:
        crf = {f"{stage}.crf.engine": "pydensecrf" for stage in ("affinity_labels", "pseudo_labels")} if find_spec("pydensecrf") else {}
        variants["reference"] = ([sys.executable, "-m", "tfwsss_pipelines.cli"], Path.cwd(), REFERENCE | crf)
    if arguments.older:
        variants["older"] = ([str(arguments.older.absolute()), "-m", arguments.older_module], arguments.older_tree, {})

    compile_engine()  # once per installation, and not what is measured here
    print("| photos | long side | variant | " + " | ".join(f"{stage}, s" for stage in STAGES) + " | all, s | photos/s | ours is faster by | peak GiB |")
    print("|---|---|---|" + "---|" * (len(STAGES) + 4))
    totals: dict[tuple[int, str], list[tuple[int, float]]] = {}
    kinds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in arguments.long_side:
            for count in arguments.count:
                place = Path(folder) / f"{side}-{count}"
                classes = write_config(arguments.config, arguments.run, place / "photos", Path(folder) / "config.yaml")
                write_photos(arguments.photos, place / "photos", count, side, classes)
                ours = None
                for name, (command, tree, settings) in variants.items():
                    seconds, peak = run_stages(command, tree, Path(folder) / "config.yaml", place / name, settings)
                    total = sum(seconds.values())
                    ours = ours or total
                    totals.setdefault((side, name), []).append((count, total))
                    stages = " | ".join(f"{value:.1f}" for value in seconds.values())
                    print(f"| {count} | {side} | {name} | {stages} | {total:.1f} | {count / total:.2f} | {total / ours:.1f} | {peak:.2f} |", flush=True)
                    if name == "ours":
                        kinds = time_by_kind(place / name)
    print("\nWhere the time of ours goes in the last of these runs, seconds added up over threads:\n")
    for stage, found in kinds.items():
        print(f"* {stage}: " + ", ".join(f"{kind} {value:.1f}" for kind, value in sorted(found.items(), key=lambda entry: -entry[1])))
    if len(arguments.count) > 1:
        print("\nExponent of seconds over photos:\n")
        for (side, name), points in totals.items():
            slope = np.polyfit(np.log([count for count, _ in points]), np.log([value for _, value in points]), 1)[0]
            print(f"* {name}, {side} pixels: {slope:.2f}")


if __name__ == "__main__":
    main()
