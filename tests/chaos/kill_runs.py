"""Kills a small run at random moments, starts it again until it ends, and compares what it leaves with an uninterrupted run.

    python -m tests.chaos.kill_runs FOLDER --kills 300 --seed 0

A kill is SIGKILL to the process and all it has started, after a random part of the processor time that a whole run takes, which does
not depend on what else the machine does; for every second life the first one falls into the second in which MLflow's store is made.
Between two kills nothing is mended by hand. At the end of each life, that is when a run has ended by itself: every label, map, walk,
network and table is equal byte for byte, MLflow holds each epoch of each stage once and no run that is still going, and no temporary file
is left. Prints a line for each life with the kills so far, and goes on after an interruption where FOLDER/lives.jsonl ends; a life
that left something else is kept as FOLDER/life-N. Exits with the number of these lives, 125 at most.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.command import environment_with
from tests.pipelines.conftest import TINY

FIRST_SECOND = 0.5  # of the lives begin with a kill while the store is made
KEPT = (".npz", ".png", ".safetensors", ".csv")
TABLES = ("table.json", "table.txt", "curves.json", "history.json", "alphas.json", "digests.json", "usable.json")


def start(folder: Path, until: str) -> subprocess.Popen:
    """`tfwsss run` in a folder, with an MLflow store of its own, as leader of a process group."""
    environment = environment_with(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
    command = ["tfwsss", "run", "tiny.yaml", "--work-dir", "work", "--until", until]
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def contents(work: Path) -> dict[str, str]:
    """Digest of everything a stage computes, by path."""
    files = [path for path in sorted(work.rglob("*")) if (path.suffix in KEPT or path.name in TABLES) and path.is_file()]
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


def processor_seconds(group: int) -> float:
    """Of all processes of a group, and of those of their children that have ended."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[2]) == group:
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def uninterrupted(folder: Path, until: str) -> tuple[Path, float]:
    """(folder of a whole run, its processor seconds); one that is there is taken."""
    done = folder / "seconds.json"
    if not done.exists():
        process, seconds = start(new_folder(folder), until), 0.0
        while process.poll() is None:
            seconds = max(seconds, processor_seconds(process.pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit((folder / "messages.log").read_text()[-3000:])
        done.write_text(json.dumps({"until": until, "seconds": seconds}))
    found = json.loads(done.read_text())
    if found["until"] != until:
        raise SystemExit(f"{folder} is a run until {found['until']}; take another folder")
    return folder, found["seconds"]


def one_life(folder: Path, reference: Path, until: str, rng: random.Random, longest: float, most_kills: int) -> tuple[int, list[str]]:
    """Run, kill, run again, until a run has ended by itself. Returns (kills, what is wrong)."""
    new_folder(folder)
    kills = 0
    while True:
        process = start(folder, until)
        seconds = rng.uniform(0.0, longest)
        if not kills and rng.random() < FIRST_SECOND:
            unfinished = folder / "mlflow.db.tfwsss-new"
            while process.poll() is None and not unfinished.exists():
                time.sleep(0.005)
            seconds = processor_seconds(process.pid) + rng.uniform(0.0, 1.0)
        while (code := process.poll()) is None and (kills >= most_kills or processor_seconds(process.pid) < seconds):
            time.sleep(0.02)
        if code is None:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the runs; what is in FOLDER/life is removed")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", default="report")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    reference, seconds = uninterrupted(folder / "reference", arguments.until)
    print(f"an uninterrupted run takes {seconds:.0f} s of processor time", flush=True)
    record = folder / "lives.jsonl"
    lives = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    while (kills := sum(life["kills"] for life in lives)) < arguments.kills:
        rng = random.Random(f"{arguments.seed} {len(lives)}")
        more, wrong = one_life(folder / "life", reference, arguments.until, rng, seconds, arguments.kills - kills)
        lives.append({"kills": more, "wrong": wrong})
        with record.open("a") as file:
            file.write(json.dumps(lives[-1]) + "\n")
        print(f"life {len(lives)}: {more} kills, {kills + more} in all; {'; '.join(wrong) or 'equal'}", flush=True)
        if wrong:
            (folder / "life").rename(folder / f"life-{len(lives)}")
    different = sum(bool(life["wrong"]) for life in lives)
    print(f"{kills} kills in {len(lives)} lives, {different} of them left something else than an uninterrupted run")
    return min(different, 125)


if __name__ == "__main__":
    sys.exit(main())
