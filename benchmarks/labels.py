"""Seconds that the label stages take, beside the reference's algorithm and, if wanted, beside an older checkout.

    python benchmarks/labels.py CONFIG RUN PHOTOS                        # RUN: work directory with both trained networks
    python benchmarks/labels.py CONFIG RUN PHOTOS --older OLD/.venv/bin/python --older-tree OLD
    python benchmarks/labels.py CONFIG RUN PHOTOS --masks MASKS --without-reference          # label_scores too

Copies of the photos in PHOTOS (a folder of JPEGs) are scaled to each long side and tagged with two classes each, and
`tfwsss run --until pseudo_labels` runs on them with the networks of RUN; with `--masks` (indexed PNGs by the photos' names) until label_scores.
Variants take turns; each is a process of its own. `reference` is the present code with the method of the authors' code: dense matrix powers,
pydensecrf (where it is installed), networks in TensorFlow, one thread. Prints Markdown: seconds of each stage, photos per second, factors, kB that are
kept of a photo, peak memory, labels that are equal to ours; then the rate of each stage's parts alone (benchmarks/label_parts.py), where the time of
ours goes, and the exponents of time over photos and over pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tfwsss.config.files import load_config
from tfwsss.crf import compile_engine
from tfwsss.storage.artifacts import load_label, save_label

STAGES = ("cams", "affinity_labels", "pseudo_labels")
REFERENCE = {"pseudo_labels.method": "dense", "runtime.workers": 1, "runtime.inference": "tensorflow"}
SCORES = "label_scores"
KEPT = ("cams", "affinity_labels", "walk", "pseudo_labels", "label_votes")


def write_photos(source: Path, masks: Path | None, target: Path, count: int, long_side: int, classes: list[str]) -> None:
    """`count` photos of one long side, a table of tags, and their masks in the folder masks/."""
    target.mkdir(parents=True)
    files = [file for file in sorted(source.glob("*.jpg")) if masks is None or (masks / f"{file.stem}.png").is_file()]
    if not files:
        raise SystemExit(f"{source}: no .jpg files{'' if masks is None else f' with a mask in {masks}'}")
    lines = ["image,tags"]
    for index in range(count):
        with Image.open(files[index % len(files)]) as photo:
            factor = long_side / max(photo.size)
            size = (round(photo.width * factor), round(photo.height * factor))
            photo.convert("RGB").resize(size).save(target / f"{index:06}.jpg", quality=92)
        if masks is not None:
            with Image.open(masks / f"{files[index % len(files)].stem}.png") as mask:
                save_label(target / "masks", f"{index:06}", np.asarray(mask.resize(size, Image.Resampling.NEAREST)))
        lines.append(f"{index:06}.jpg,{classes[index % len(classes)]}|{classes[(index + 1) % len(classes)]}")
    (target / "tags.csv").write_text("\n".join(lines) + "\n")


def write_config(config: str, run: Path, photos: Path, path: Path, masked: bool) -> list[str]:
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
    values |= {"name": "benchmark", "data": {"format": "folder", "root": str(photos), "classes": classes} | ({"mask_folder": "masks"} if masked else {})}
    path.write_text(yaml.safe_dump(values))
    return classes


def run_stages(command: list[str], tree: Path, config: Path, work: Path, settings: dict, stages: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """({stage: seconds}, peak GiB of the process) of one run."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{work}.db", "TF_CPP_MIN_LOG_LEVEL": "3"}
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    log = Path(f"{work}.log")
    with log.open("w") as messages:
        words = [*command, "run", str(config), "--work-dir", str(work), "--until", stages[-1], *overrides]
        process = subprocess.Popen(words, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    seconds = {stage: json.loads((work / stage / "stage.json").read_text())["seconds"] for stage in stages}
    return seconds, usage.ru_maxrss / 2**20


def kept_bytes(work: Path, count: int) -> float:
    """Bytes of a photo that the stages keep, labels included."""
    return sum(file.stat().st_size for name in KEPT for file in (work / name).rglob("*.*") if file.suffix in (".npz", ".png")) / count


def equal_labels(work: Path, ours: Path) -> str:
    """Part of the pixels with the same label as in our run: affinity labels, walk and CRF."""
    plain = "label_votes/plain"  # older versions have no other label than this one
    shares = []
    for folder, other in (("affinity_labels", "affinity_labels"), (plain, plain if (work / plain).is_dir() else "pseudo_labels")):
        equal = [load_label(work / other, file.stem) == load_label(ours / folder, file.stem) for file in sorted((ours / folder).glob("*.png"))]
        shares.append(f"{100 * np.mean(np.concatenate([one.ravel() for one in equal])):.3f} %")
    return ", ".join(shares)


def time_by_kind(work: Path) -> dict[str, dict[str, float]]:
    """{stage: {kind of work: seconds}} of a run of the present code."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{work}.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    metrics = {name: value for run in runs for name, value in run.data.metrics.items() if name.startswith("seconds/")}
    return {stage: {name.split("/")[2]: value for name, value in metrics.items() if name.split("/")[1] == stage} for stage in STAGES}


@dataclass
class Outcome:
    """What one variant took for one set of photos."""

    count: int
    pixels: float
    seconds: dict[str, float]

    @property
    def labels(self) -> float:
        """Seconds until the pseudo labels."""
        return sum(self.seconds[stage] for stage in STAGES)


def slope(points: list[tuple[float, float]]) -> float:
    """Exponent of the second number over the first."""
    across, along = np.log(np.array(points)).T
    return float(np.polyfit(across, along, 1)[0])


def print_parts(config: Path, work: Path, settings: dict, outcomes: dict[str, Outcome]) -> None:
    """Each stage beside its parts alone, on the photos of a run."""
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    script = Path(__file__).with_name("label_parts.py")
    done = subprocess.run([sys.executable, str(script), str(config), str(work), "--json", *overrides], check=True, capture_output=True, text=True)
    parts = json.loads(done.stdout.splitlines()[-1])
    print("\nPhotos per second, stages against their parts alone (on a processor all parts share the cores):\n")
    print("| stage | reading | device | finishing | slowest part | one after another | " + " | ".join(outcomes) + " | ours, % of one after another |")
    print("|---" * (7 + len(outcomes)) + "|")
    for stage, rates in parts.items():
        bound = 1 / sum(1 / rate for rate in rates.values())
        speeds = {name: outcome.count / outcome.seconds[stage] for name, outcome in outcomes.items()}
        cells = [f"{rates[name]:.1f}" if name in rates else "-" for name in ("reading", "device", "finishing")]
        cells += [f"{min(rates.values()):.2f}", f"{bound:.2f}", *(f"{speed:.2f}" for speed in speeds.values())]
        print(f"| {stage} | {' | '.join(cells)} | {100 * speeds['ours'] / bound:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="preset or file of the run")
    parser.add_argument("run", type=Path, help="its work directory")
    parser.add_argument("photos", type=Path, help="folder of JPEG photos")
    parser.add_argument("--masks", type=Path, help="folder of their masks, indexed PNGs: the stage label_scores runs too")
    parser.add_argument("--count", type=int, nargs="+", default=[25, 100], help="photos (default: 25 100)")
    parser.add_argument("--long-side", type=int, nargs="+", default=[250, 500], help="pixels (default: 250 500)")
    parser.add_argument("--older", type=Path, help="Python of an older checkout's environment")
    parser.add_argument("--older-tree", type=Path, help="folder of that checkout")
    parser.add_argument("--older-module", default="pipelines.cli", help="its command line (default: pipelines.cli)")
    parser.add_argument("--without-reference", action="store_true", help="leave the reference's algorithm out")
    arguments = parser.parse_args()
    here = [sys.executable, "-m", "tfwsss_pipelines.cli"]
    variants: dict[str, tuple[list[str], Path, dict[str, Any]]] = {"ours": (here, Path.cwd(), {})}
    if not arguments.without_reference:
        crf = {f"{stage}.crf.engine": "pydensecrf" for stage in ("affinity_labels", "pseudo_labels")} if find_spec("pydensecrf") else {}
        variants["reference"] = (here, Path.cwd(), REFERENCE | crf)
    if arguments.older:
        variants["older"] = ([str(arguments.older.absolute()), "-m", arguments.older_module], arguments.older_tree, {})
    masked = arguments.masks is not None
    stages = (*STAGES, SCORES) if masked else STAGES

    compile_engine()  # once per installation, and not what is measured here
    headings = ["photos", "long side", "variant", *(f"{stage}, s" for stage in stages), "labels, s", "photos/s", "ours is faster by", "kB a photo", "peak GiB", "labels equal to ours"]
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    results: dict[str, list[Outcome]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        for side in arguments.long_side:
            for count in arguments.count:
                place = Path(folder) / f"{side}-{count}"
                classes = write_config(arguments.config, arguments.run, place / "photos", config, masked)
                write_photos(arguments.photos, arguments.masks, place / "photos", count, side, classes)
                for name, (command, tree, settings) in variants.items():
                    seconds, peak = run_stages(command, tree, config, place / name, settings, stages)
                    outcome = Outcome(count, side**2, seconds)
                    results[name].append(outcome)
                    cells = [f"{value:.1f}" for value in seconds.values()]
                    cells += [f"{outcome.labels:.1f}", f"{count / outcome.labels:.2f}", f"{outcome.labels / results['ours'][-1].labels:.1f}"]
                    cells += [f"{kept_bytes(place / name, count) / 1e3:.0f}", f"{peak:.2f}", equal_labels(place / name, place / "ours")]
                    print(f"| {count} | {side} | {name} | {' | '.join(cells)} |", flush=True)
        print_parts(config, place / "ours", {}, {name: outcomes[-1] for name, outcomes in results.items()})
        kinds = time_by_kind(place / "ours")
    print("\nWhere the time of ours goes in the last of these runs, seconds added up over threads:\n")
    for stage, found in kinds.items():
        print(f"* {stage}: " + ", ".join(f"{kind} {value:.1f}" for kind, value in sorted(found.items(), key=lambda entry: -entry[1])))
    if masked:
        last = results["ours"][-1]
        print(f"\nlabel_scores takes {100 * last.seconds[SCORES] / last.labels:.0f} % of the time of the stages that make the labels.")
    print("\nExponents of the seconds until the labels:\n")
    for name, outcomes in results.items():
        for side in arguments.long_side if len(arguments.count) > 1 else ():
            print(f"* {name}, over photos of {side} pixels: {slope([(o.count, o.labels) for o in outcomes if o.pixels == side**2]):.2f}")
        for count in arguments.count if len(arguments.long_side) > 1 else ():
            print(f"* {name}, over the pixels of {count} photos: {slope([(o.pixels, o.labels) for o in outcomes if o.count == count]):.2f}")


if __name__ == "__main__":
    main()
