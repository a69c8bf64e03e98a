"""Photos per second of each part of the label stages alone, on the photos of a finished run.

    python benchmarks/label_parts.py CONFIG WORK          # WORK: work directory that has reached pseudo_labels

Each stage does three things to a photo: read it, compute on a device, finish it. Here each runs alone, for all photos one
kind after the other: reading and finishing in as many threads as the stage uses, the device as the stage feeds it. The
slowest part bounds the stage where parts have hardware of their own (a GPU); on a processor they share the cores, and all
of them one after another are the bound. Results go to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfwsss.config.files import load_config
from tfwsss.crf import compile_engine
from tfwsss.processes import worker_count
from tfwsss.training.loop import make_deterministic
from tfwsss_pipelines.engine.context import Context, NoRun
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.executors.work import Work
from tfwsss_pipelines.labelling.cams import Tagged, cam_work
from tfwsss_pipelines.labelling.photos import device_names
from tfwsss_pipelines.labelling.walk import walk_work
from tfwsss_pipelines.stages.affinity_labels import label_work, used_alphas
from tfwsss_pipelines.stages.pseudo_labels import voter

READ = ("data", "classifier", "cams", "affinity_labels", "affinitynet")  # folders that the stages read


def works(context: Context) -> dict[str, tuple[Work, list]]:
    """{stage: (its work, its items)} on all photos."""
    dataset, work = context.dataset("train"), context.work
    alphas = used_alphas(work)
    tagged = [Tagged(sample, tags) for sample, tags in zip(dataset.samples, dataset.tag_matrix(), strict=True)]
    return {
        "cams": (cam_work(context, dataset, work / "out/cams", Timing()), tagged),
        "affinity_labels": (label_work(context, dataset, work / "out/affinity_labels", alphas, Timing()), list(dataset.samples)),
        "pseudo_labels": (
            walk_work(context, dataset, work / "cams", work / "walk", (alphas.walk,), Timing(), voter(context, Timing())),
            list(dataset.samples),
        ),
    }


def seconds(function: Callable[[Any], Any], values: Sequence, threads: int) -> tuple[list, float]:
    """(results, seconds of all but the first): the first call compiles, traces and plans memory."""
    first = function(values[0])
    started = time.perf_counter()
    if threads == 1:
        rest = [function(value) for value in values[1:]]
    else:
        with ThreadPoolExecutor(threads) as pool:
            rest = list(pool.map(function, values[1:]))
    return [first, *rest], time.perf_counter() - started


def rates(work: Work, items: list, device: str, threads: int) -> dict[str, float]:
    """{part: photos per second}, on at least two items."""
    count = len(items) - 1
    loaded, reading = seconds(work.read, items, threads)
    found = {"reading": count / reading}
    if work.on_device is not None:
        compute = work.on_device(device)
        computed, spent = seconds(lambda one: compute([one])[0], loaded, 1)
        found["device"] = count / spent
    else:
        computed = loaded
    _, finishing = seconds(lambda pair: work.finish(*pair), list(zip(items, computed, strict=True)), threads)
    found["finishing"] = count / finishing
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="preset or file of the run")
    parser.add_argument("work", type=Path, help="its work directory")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="as for tfwsss run")
    parser.add_argument("--photos", type=int, default=20, help="of the run (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    make_deterministic(config.seed)
    compile_engine()
    with tempfile.TemporaryDirectory() as folder:
        for name in READ:
            (Path(folder) / name).symlink_to((arguments.work / name).resolve(), target_is_directory=True)
        context = Context(config, Path(folder), NoRun())
        device, threads = device_names(config.runtime)[0], worker_count(config.runtime.workers)
        found = {}
        for stage, (work, items) in works(context).items():
            found[stage] = rates(work, items[: arguments.photos + 1], device, threads)
            for written in ("walk", "label_votes", "pseudo_labels", "out"):
                shutil.rmtree(Path(folder) / written, ignore_errors=True)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{arguments.photos} photos, {device}, {threads} threads; photos per second of each part alone\n")
    print("| stage | reading | device | finishing | slowest | one after another |\n|---|---|---|---|---|---|")
    for stage, parts in found.items():
        cells = [f"{parts[name]:.1f}" if name in parts else "-" for name in ("reading", "device", "finishing")]
        print(f"| {stage} | {' | '.join(cells)} | {min(parts.values()):.2f} | {1 / sum(1 / rate for rate in parts.values()):.2f} |")


if __name__ == "__main__":
    main()
