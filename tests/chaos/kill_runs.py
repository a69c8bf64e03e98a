"""Kills a small run at random moments, starts it again until it ends, and compares what it leaves with an uninterrupted run.

    python -m tests.chaos.kill_runs FOLDER --kills 300 --seed 0

A kill is SIGKILL to the process and all it has started, after a random time; the first second of a new MLflow store is among them.
Between two kills nothing is mended by hand. At the end of each life, that is when a run has ended by itself: every label, map, walk
and network is equal byte for byte, MLflow holds each epoch of each stage once and no run that is still going, and no temporary file
is left. Prints a line for each life; exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import yaml

from tests.command import environment_with
from tests.pipelines.conftest import TINY

FIRST_SECOND = 0.15  # of the kills fall into the first seconds, while the store is made
KEPT = (".npz", ".png", ".safetensors", ".csv")


def start(folder: Path, until: str) -> subprocess.Popen:
    """`tfwsss run` in a folder, with an MLflow store of its own, as leader of a process group."""
    environment = environment_with(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
    command = ["tfwsss", "run", "tiny.yaml", "--work-dir", "work", "--until", until]
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def contents(work: Path) -> dict[str, str]:
    """Digest of everything a stage computes, by path."""
    files = [path for path in sorted(work.rglob("*")) if path.suffix in KEPT and path.is_file()]
    return {str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp*")]


def tracked(store: Path) -> tuple[dict[str, int], list[str]]:
    """({stage|metric|epoch: how often}, names of runs that have not ended) of an MLflow store."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        query = "select r.name, m.key, m.step, count(*) from metrics m join runs r on r.run_uuid = m.run_uuid where m.step > 0 group by 1, 2, 3"
        metrics = {f"{name}|{key}|{step}": count for name, key, step, count in database.execute(query)}
        running = [name for (name,) in database.execute("select name from runs where status = 'RUNNING'")]
    return metrics, running


def new_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def uninterrupted(folder: Path, until: str) -> tuple[Path, float]:
    """(folder of a whole run, its seconds)."""
    begun = time.monotonic()
    process = start(new_folder(folder), until)
    if process.wait():
        raise SystemExit((folder / "messages.log").read_text()[-3000:])
    return folder, time.monotonic() - begun


def one_life(folder: Path, reference: Path, until: str, rng: random.Random, longest: float, most_kills: int) -> tuple[int, list[str]]:
    """Run, kill, run again, until a run has ended by itself. Returns (kills, what is wrong)."""
    new_folder(folder)
    kills = 0
    while True:
        process = start(folder, until)
        patience = rng.uniform(0.0, 6.0) if rng.random() < FIRST_SECOND else rng.uniform(3.0, longest)
        try:
            code = process.wait(patience if kills < most_kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        if code:
            return kills, [f"exit code {code}: {(folder / 'messages.log').read_text()[-2000:]}"]
        return kills, differences(folder, reference)


def differences(folder: Path, reference: Path) -> list[str]:
    found, expected = contents(folder / "work"), contents(reference / "work")
    wrong = [f"{path}: {'differs' if path in found else 'missing'}" for path in expected if found.get(path) != expected[path]]
    wrong += [f"{path}: not in an uninterrupted run" for path in found.keys() - expected.keys()]
    wrong += [f"{path}: left over" for path in leftovers(folder)]
    metrics, running = tracked(folder / "mlflow.db")
    expected_metrics, _ = tracked(reference / "mlflow.db")
    wrong += [f"{name}: {metrics.get(name, 0)} times in MLflow, expected {count}" for name, count in expected_metrics.items() if metrics.get(name) != count]
    return wrong + [f"{name}: still running in MLflow" for name in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the runs; what is in FOLDER/reference and FOLDER/life is removed")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", default="report")
    arguments = parser.parse_args()
    rng, kills, lives = random.Random(arguments.seed), 0, 0
    reference, seconds = uninterrupted(arguments.folder.resolve() / "reference", arguments.until)
    print(f"an uninterrupted run takes {seconds:.0f} s", flush=True)
    while kills < arguments.kills:
        more, wrong = one_life(arguments.folder.resolve() / "life", reference, arguments.until, rng, seconds, arguments.kills - kills)
        kills, lives = kills + more, lives + 1
        print(f"life {lives}: {more} kills, {kills} in all; {'; '.join(wrong) or 'equal'}", flush=True)
        if wrong:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
