"""Kills three shards that share a work directory at random moments, starts each again until it has ended, and closes the stage.

    python -m tests.chaos.kill_shards FOLDER --kills 60 --seed 0

Among the photos is one that kills whoever reads it. The reference is a run of single processes that nothing else has killed. Stage
by stage of the labels: at the end of each life every label, map, walk and table equals those of the reference byte for byte, no file that
was there at a kill has been written again, and the quarantine holds the deadly photo and no other. Prints a line for each life with the
kills so far, and exits with the number of lives that left something else.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from tests.chaos.kill_ray import LABELLING, POISON, POISONED, UNTIL, finished_files, quarantine_problems
from tests.chaos.kill_runs import contents, leftovers, tracked
from tests.chaos.lives import run_lives
from tests.command import environment_with
from tests.pipelines.conftest import TINY

SHARDS = 3
STAGES = ("cams", "affinity_labels", "pseudo_labels", "label_scores")
PHOTOS = 16
ONE_SHARD = ("stage", "cams", "tiny.yaml", "--shard", "1/1")
DEATHS = 4  # by the deadly photo: with others under way, then three times alone


def start(folder: Path, *words: str) -> subprocess.Popen:
    environment = environment_with(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db", TFWSSS_POISON=POISON)
    environment["PYTHONPATH"] = os.pathsep.join((str(POISONED), environment["PYTHONPATH"]))
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen(["tfwsss", *words, "--work-dir", "work"], cwd=folder, env=environment, stdout=log, stderr=log)


def prepared(folder: Path, trained: Path | None, photos: int) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"data": TINY["data"] | {"train_images": photos}}))
    if trained is not None:
        for name in ("data", "scenes", "classifier"):
            shutil.copytree(trained / "work" / name, folder / "work" / name)
    return folder


def reference(folder: Path, photos: int = PHOTOS, until: str = UNTIL) -> Path:
    """Folder of a run of which only the deadly photo has killed processes; one that is there is taken."""
    if not (folder / f"work/{until}/files.json").exists():
        must(prepared(folder, None, photos), "run", "tiny.yaml", "--until", before("cams"))
        codes = [start(folder, *ONE_SHARD).wait() for _ in range(DEATHS)]
        if codes != [-signal.SIGKILL] * DEATHS:
            raise SystemExit(f"exit codes {codes}: {(folder / 'messages.log').read_text()[-3000:]}")
        must(folder, *ONE_SHARD)
        must(folder, "stage", "cams", "tiny.yaml", "--close")
        must(folder, "run", "tiny.yaml", "--until", until)
        if wrong := quarantine_problems(folder):
            raise SystemExit("; ".join(wrong))
    return folder


def must(folder: Path, *words: str) -> None:
    if start(folder, *words).wait():
        raise SystemExit((folder / "messages.log").read_text()[-3000:])


def one_life(folder: Path, expected: Path, rng: random.Random, most_kills: int, stages: tuple[str, ...] = STAGES, photos: int = PHOTOS) -> tuple[Counter[str], list[str]]:
    """All stages, each by shards that are killed. Returns (kills, what is wrong)."""
    prepared(folder, expected, photos)
    kills, finished = Counter[str](), {}
    for stage in stages:
        if start(folder, "run", "tiny.yaml", "--until", before(stage)).wait():
            return kills, [(folder / "messages.log").read_text()[-2000:]]
        shards = {number: start(folder, "stage", stage, "tiny.yaml", "--shard", f"{number}/{SHARDS}") for number in range(1, SHARDS + 1)}
        while True:
            for number, shard in list(shards.items()):
                if shard.poll() == 0:
                    del shards[number]
                elif shard.poll() == -signal.SIGKILL:
                    shards[number] = start(folder, "stage", stage, "tiny.yaml", "--shard", f"{number}/{SHARDS}")
                elif shard.poll() is not None:
                    return kills, [f"shard {number} of {stage}, exit code {shard.poll()}: {(folder / 'messages.log').read_text()[-2000:]}"]
            if not shards:
                break
            next_kill = time.monotonic() + rng.uniform(0.5, 12.0)
            while time.monotonic() < next_kill and any(shard.poll() is None for shard in shards.values()):
                time.sleep(0.1)
            alive = [shard for shard in shards.values() if shard.poll() is None]
            if alive and kills.total() < most_kills:
                for path, stamp in finished_files(folder / "work").items():
                    finished.setdefault(path, stamp)
                shard = rng.choice(alive)
                shard.kill()
                shard.wait()
                kills["shard"] += 1
        if code := start(folder, "stage", stage, "tiny.yaml", "--close").wait():
            return kills, [f"closing of {stage}, exit code {code}: {(folder / 'messages.log').read_text()[-2000:]}"]
    return kills, differences(folder, expected, stages, finished)


def before(stage: str) -> str:
    """The stage before one."""
    from tfwsss_pipelines.stages import NAMES

    return NAMES[NAMES.index(stage) - 1]


def differences(folder: Path, expected: Path, stages: tuple[str, ...], finished: dict[Path, tuple[int, int]]) -> list[str]:
    kept = LABELLING if stages == STAGES else stages
    found, wanted = ({path: digest for path, digest in contents(run / "work").items() if path.startswith(kept) and not path.endswith("quarantine.csv")} for run in (folder, expected))
    wrong = [f"{path}: {'differs' if path in found else 'missing'}" for path in wanted if found.get(path) != wanted[path]]
    wrong += [f"{path}: not in the run of one process" for path in found.keys() - wanted.keys()]
    now = finished_files(folder / "work")
    wrong += [f"{path.relative_to(folder)}: written again" for path, stamp in finished.items() if now.get(path) != stamp]
    wrong += [f"{path}: left over" for path in leftovers(folder)]
    return wrong + quarantine_problems(folder) + [f"{name}: still running in MLflow" for name in tracked(folder / "mlflow.db")[1]]


if __name__ == "__main__":
    sys.exit(run_lives(__doc__, reference, one_life))
