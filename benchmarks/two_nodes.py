"""Two machines on one: network namespaces form a Ray cluster, and bind mounts stand for a shared folder. Needs Linux, root, ip and mount.

    python benchmarks/two_nodes.py

A run of the label stages by the threads of one process is the reference. The same stages run on a Ray cluster of two nodes that reach each
other through a pair of virtual network devices only, and then by two shards whose work directory is the same folder under two
mounts. Prints how many workers the run on Ray had, and whether cams, labels and walks are equal byte for byte; exits with 1 if not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

NAMES, ADDRESSES, PORT = ("tfwsss0", "tfwsss1"), ("10.77.0.1", "10.77.0.2"), 6399
COMMANDS = Path(sys.executable).parent
STAGES = ("cams", "affinity_labels", "pseudo_labels")
FOLDERS = (*STAGES, "walk", "label_votes")
NETWORK: dict[str, Any] = {
    "model": {"backbone": "mobilenetv2", "width": 0.35, "freeze": False, "batch_norm": "train"},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 1,
    "batch_size": 4,
    "crop": 72,
}


def call(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


@contextlib.contextmanager
def two_namespaces() -> Iterator[None]:
    try:
        for name in NAMES:
            call("ip", "netns", "add", name)
        call("ip", "link", "add", "tfwsss0", "netns", NAMES[0], "type", "veth", "peer", "name", "tfwsss1", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            call("ip", "-n", name, "address", "add", f"{address}/24", "dev", name)
            call("ip", "-n", name, "link", "set", name, "up")
            call("ip", "-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[None]:
    """A Ray cluster; its processes stay in the foreground, so that they can be ended."""
    options = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block"]
    starts = [
        ["--head", f"--node-ip-address={ADDRESSES[0]}", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"],
        [f"--address={ADDRESSES[0]}:{PORT}", f"--node-ip-address={ADDRESSES[1]}"],
    ]
    nodes = []
    try:
        for name, start in zip(NAMES, starts, strict=True):
            command = ["ip", "netns", "exec", name, str(COMMANDS / "ray"), "start", *start, *options]
            with (folder / f"{name}.log").open("wb") as log:
                nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"RAY_worker_niceness": "0"}))
            deadline = time.monotonic() + 120.0
            while b"Ray runtime started" not in (folder / f"{name}.log").read_bytes():
                if nodes[-1].poll() is not None or time.monotonic() > deadline:
                    raise SystemExit((folder / f"{name}.log").read_text()[-2000:])
                time.sleep(0.5)
        yield
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(30)


@contextlib.contextmanager
def mounted(folder: Path, place: Path) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    call("mount", "--bind", folder, place)
    try:
        yield place
    finally:
        call("umount", place)


def tfwsss(folder: Path, *words: str, within: str | None = None) -> subprocess.Popen:
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TF_CPP_MIN_LOG_LEVEL": "3"}
    prefix = ["ip", "netns", "exec", within] if within else []
    with (folder / "messages.log").open("ab") as log:
        return subprocess.Popen([*prefix, str(COMMANDS / "tfwsss"), *words], cwd=folder, env=environment, stdout=log, stderr=log)


def must(folder: Path, process: subprocess.Popen) -> None:
    if process.wait():
        raise SystemExit((folder / "messages.log").read_text()[-3000:])


def copy_of(folder: Path, name: str) -> Path:
    """A work directory with the networks of the reference, and no labels."""
    shutil.rmtree(folder / name, ignore_errors=True)
    for part in ("data", "scenes", "classifier", "affinitynet"):
        shutil.copytree(folder / "local" / part, folder / name / part)
    return folder / name


def compare(folder: Path, name: str) -> bool:
    paths = [path.relative_to(folder / "local") for part in FOLDERS for path in (folder / "local" / part).rglob("*") if path.suffix in (".npz", ".png")]
    equal = sum((folder / name / path).is_file() and (folder / name / path).read_bytes() == (folder / "local" / path).read_bytes() for path in paths)
    print(f"{name}: {equal} of {len(paths)} files equal", flush=True)
    return equal == len(paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/tfwsss-nodes"), help="its path must be short: Ray's sockets are in it; it must not exist")
    parser.add_argument("--photos", type=int, default=12)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"--folder {folder}: is there already; nothing in it is touched")
    data = {"format": "scenes", "train_images": arguments.photos, "val_images": 2, "size": 96}
    networks = {"classifier": NETWORK | {"resize_long": [96, 96]}, "affinitynet": NETWORK | {"model": NETWORK["model"] | {"weights": "classifier"}}}
    (folder / "nodes.yaml").write_text(yaml.safe_dump({"name": "nodes", "data": data, **networks, "pseudo_labels": {"smallest_share": 0.0}}))
    must(folder, tfwsss(folder, "run", "nodes.yaml", "--work-dir", "local", "--until", "pseudo_labels"))

    work = copy_of(folder, "nodes")
    settings = [word for value in ("executor=ray", f"ray_address={ADDRESSES[0]}:{PORT}") for word in ("--set", f"runtime.{value}")]
    with two_namespaces(), two_nodes(folder):
        must(folder, tfwsss(folder, "run", "nodes.yaml", "--work-dir", work.name, "--until", "pseudo_labels", *settings, within=NAMES[0]))
    same = compare(folder, work.name)
    print("workers of the Ray cluster:", sorted({line.rpartition(", ")[2] for line in (folder / "messages.log").read_text().splitlines() if line.endswith("workers")}))

    work = copy_of(folder, "mounts")
    with mounted(work, folder / "mount1") as one, mounted(work, folder / "mount2") as other:
        for stage in STAGES:
            shards = [tfwsss(folder, "stage", stage, "nodes.yaml", "--work-dir", str(place), "--shard", f"{number}/2") for number, place in ((1, one), (2, other))]
            for shard in shards:
                must(folder, shard)
            must(folder, tfwsss(folder, "stage", stage, "nodes.yaml", "--work-dir", str(one), "--close"))
    return 0 if compare(folder, work.name) and same else 1


if __name__ == "__main__":
    sys.exit(main())
