"""Kills the processes of a run on Ray at random moments: actors, raylet and the command itself, until there were enough kills.

    python -m tests.chaos.kill_ray FOLDER --kills 60 --seed 0

Among the photos is one that kills whoever reads it. The reference is an uninterrupted run with the same photo. After each kill of
the command no process of its may be there a minute later, and it is started again. At the end of each life, that is when a run
has ended by itself: every label, map, walk and table is equal byte for byte, no file that was there at a kill has been written
again, the quarantine holds the deadly photo and no other, MLflow holds no run that is still going, and no temporary file is left.
Prints a line for each life with the kills so far, and exits with the number of lives that left something else.
"""

from __future__ import annotations

import contextlib
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import yaml

from tests.chaos.kill_runs import contents, leftovers, tracked
from tests.chaos.lives import run_lives
from tests.command import environment_with
from tests.pipelines.conftest import TINY
from tfwsss_pipelines.executors.ray_guard import processes_of

POISONED = Path(__file__).parent / "poison"
POISON = "train/00003"
PHOTOS = 16
UNTIL = "label_scores"
LABELLING = ("cams", "affinity_labels", "walk", "label_votes", "pseudo_labels", "label_audit", "label_scores")
KINDS = {"actor": 0.75, "raylet": 0.1, "command": 0.15}  # how often which is killed
SURVIVAL_SECONDS = 60.0
ENDED_BY_RAY = "core_worker_process.cc"  # where the raylet dies before the command is connected, Ray ends the command's process

clusters: defaultdict[Path, set[str]] = defaultdict(set)  # by the command's folder: folders of the clusters that it has started


def configuration(folder: Path, photos: int) -> None:
    """tiny.yaml: a run on a Ray cluster of its own, an actor for each core."""
    data = TINY["data"] | {"train_images": photos}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"data": data, "runtime": {"executor": "ray", "cpus_per_actor": 1, "workers": 1}}))


def start(folder: Path, until: str = UNTIL) -> subprocess.Popen:
    environment = environment_with(folder, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db", TFWSSS_POISON=POISON, TFWSSS_LIFE=str(folder))
    environment["PYTHONPATH"] = os.pathsep.join((str(POISONED), environment["PYTHONPATH"]))
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen(["tfwsss", "run", "tiny.yaml", "--work-dir", "work", "--until", until], cwd=folder, env=environment, stdout=log, stderr=log)


def processes(folder: Path) -> dict[int, str]:
    """{process: its command line} of all that a command in `folder` has started, itself among them.

    Some of Ray's overwrite their environment; they are known by the cluster's folder, which is in the others' command lines.
    """
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            if f"TFWSSS_LIFE={folder}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = line = _command_line(int(place.name))
                clusters[folder] |= set(re.findall(r"=(/tmp/\S*?tfwsss-ray-[^/\s]+)", line))
    numbers = {number for cluster in clusters[folder] for number in processes_of(Path(cluster))}
    found |= {number: _command_line(number) for number in numbers}
    return {number: line for number, line in found.items() if line}


def _command_line(number: int) -> str:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def victim(folder: Path, command: int, rng: random.Random) -> tuple[int, str] | None:
    """A process to kill, and what it is."""
    found = processes(folder)
    kinds = {
        "actor": [number for number, line in found.items() if line.startswith("ray::Worker")],
        "raylet": [number for number, line in found.items() if "/raylet/raylet " in line],
        "command": [command],
    }
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    return (rng.choice(kinds[kind]), kind) if kinds[kind] else None


def finished_files(work: Path) -> dict[Path, tuple[int, int]]:
    """What is there of single photos, and when it was written."""
    found = {}
    for name in LABELLING:
        for path in (work / name).rglob("*"):
            if path.suffix in (".npz", ".png") and not path.name.startswith(".tfwsss-") and path.is_file():
                found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def survivors(folder: Path) -> list[str]:
    """Processes of a command that are still there a minute after its death."""
    deadline = time.monotonic() + SURVIVAL_SECONDS
    while (found := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for number in found:  # the next life must not suffer from it
        os.kill(number, signal.SIGKILL)
    return [f"{line[:80]}: has survived the command" for line in found.values()]


def prepared(folder: Path, trained: Path | None, photos: int) -> Path:
    """A folder to run in; with the data and the classifier of a run that has them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    configuration(folder, photos)
    if trained is not None:
        for name in ("data", "scenes", "classifier"):
            shutil.copytree(trained / "work" / name, folder / "work" / name)
    return folder


def reference(folder: Path, photos: int = PHOTOS, until: str = UNTIL) -> Path:
    """Folder of an uninterrupted run; one that is there is taken."""
    if not (folder / f"work/{until}/files.json").exists():
        if start(prepared(folder, None, photos), until).wait():
            raise SystemExit((folder / "messages.log").read_text()[-3000:])
        if wrong := quarantine_problems(folder) + survivors(folder):
            raise SystemExit("; ".join(wrong))
    return folder


def quarantine_problems(folder: Path) -> list[str]:
    with (folder / "work/cams/quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [] if [row["id"] for row in rows] == [POISON] and rows[0]["reason"].startswith("killed 3 ") else [f"quarantine of cams: {rows}"]
    return wrong + [f"{path}: a second quarantine" for path in folder.glob("work/*/quarantine.csv") if path.parent.name not in ("cams", "data")]


def one_life(folder: Path, expected: Path, rng: random.Random, most_kills: int, photos: int = PHOTOS, until: str = UNTIL) -> tuple[Counter[str], list[str]]:
    """Run and kill until a run has ended by itself. Returns (kills of each kind, what is wrong)."""
    prepared(folder, expected, photos)
    kills: Counter[str] = Counter()
    wrong: list[str] = []
    finished: dict[Path, tuple[int, int]] = {}
    command = start(folder, until)
    while True:
        next_kill = time.monotonic() + rng.uniform(1.0, 20.0)
        while command.poll() is None and (time.monotonic() < next_kill or kills.total() >= most_kills):
            time.sleep(0.1)
        if command.poll() is None:
            found = victim(folder, command.pid, rng)
            if found is None:
                continue
            for path, stamp in finished_files(folder / "work").items():
                finished.setdefault(path, stamp)
            try:
                os.kill(found[0], signal.SIGKILL)
            except ProcessLookupError:
                continue
            kills[found[1]] += 1
            if found[1] != "command":
                continue
        code = command.wait()
        wrong += survivors(folder)
        if code == -signal.SIGKILL or (code and kills["raylet"] and ENDED_BY_RAY in (folder / "messages.log").read_text()):
            (folder / "messages.log").unlink()
            command = start(folder, until)
            continue
        if code:
            wrong.append(f"exit code {code}: {(folder / 'messages.log').read_text()[-2000:]}")
        else:
            wrong += differences(folder, expected, finished)
        return kills, wrong


def differences(folder: Path, expected: Path, finished: dict[Path, tuple[int, int]]) -> list[str]:
    found, wanted = ({path: digest for path, digest in contents(run / "work").items() if path.startswith(LABELLING) and not path.endswith("quarantine.csv")} for run in (folder, expected))
    wrong = [f"{path}: {'differs' if path in found else 'missing'}" for path in wanted if found.get(path) != wanted[path]]
    wrong += [f"{path}: not in an uninterrupted run" for path in found.keys() - wanted.keys()]
    wrong += [f"{path.relative_to(folder)}: written again" for path, stamp in finished.items() if finished_files(folder / "work").get(path) != stamp]
    wrong += [f"{path}: left over" for path in leftovers(folder)]
    return wrong + quarantine_problems(folder) + [f"{name}: still running in MLflow" for name in tracked(folder / "mlflow.db")[1]]


if __name__ == "__main__":
    sys.exit(run_lives(__doc__, reference, one_life))
