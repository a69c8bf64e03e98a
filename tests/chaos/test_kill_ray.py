"""The small form of `python -m tests.chaos.kill_ray`, and what signals do to a run on Ray."""

import random
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.chaos import kill_ray

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]
PHOTOS, UNTIL = 6, "affinity_labels"


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    return kill_ray.reference(tmp_path_factory.mktemp("ray") / "reference", PHOTOS, UNTIL)


def test_a_deadly_photo_is_left_out_and_said(reference):
    """That it is alone in the quarantine `kill_ray.reference` has seen."""
    said = (reference / "messages.log").read_text()
    assert f"{kill_ray.POISON}: left out, killed 3 workers that had nothing else to do" in said
    assert "1 photos killed their workers and were left out" in said and "quarantined 1" in said
    assert not (reference / f"work/cams/{kill_ray.POISON}.npz").exists()
    labels = [path.stem for path in (reference / "work/affinity_labels").rglob("*.png")]
    assert len(labels) == PHOTOS - 1 and Path(kill_ray.POISON).name not in labels


def test_a_run_whose_processes_were_killed_leaves_what_an_uninterrupted_one_leaves(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(kill_ray, "KINDS", {"actor": 0.6, "command": 0.4})  # a dead raylet is noticed late
    kills, wrong = kill_ray.one_life(tmp_path / "life", reference, random.Random(5), 3, PHOTOS, UNTIL)
    assert wrong == []
    assert kills


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_cluster_too(reference, tmp_path, number):
    folder = kill_ray.prepared(tmp_path / "run", reference, PHOTOS)
    command = kill_ray.start(folder, UNTIL)
    while command.poll() is None and not any(line.startswith("ray::Worker") for line in kill_ray.processes(folder).values()):
        time.sleep(0.1)
    command.send_signal(number)
    assert command.wait(60) == 128 + number
    assert "the same command goes on where this one stopped" in (folder / "messages.log").read_text()
    assert kill_ray.survivors(folder) == []


def test_the_clusters_folder_goes_with_a_command_that_is_killed(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    clusters = Path("/tmp" if len(str(tmp_path)) > 30 else tmp_path)
    before = set(clusters.glob("tfwsss-ray-*"))
    folder = kill_ray.prepared(tmp_path / "run", reference, PHOTOS)
    command = kill_ray.start(folder, UNTIL)
    while command.poll() is None and not any("/raylet/raylet " in line for line in kill_ray.processes(folder).values()):
        time.sleep(0.1)
    assert set(clusters.glob("tfwsss-ray-*")) > before
    command.kill()
    command.wait()
    assert kill_ray.survivors(folder) == []
    deadline = time.monotonic() + 30
    while set(clusters.glob("tfwsss-ray-*")) > before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not set(clusters.glob("tfwsss-ray-*")) > before


def test_differences_are_seen(reference, tmp_path):
    folder = kill_ray.prepared(tmp_path / "run", reference, PHOTOS)
    for name in ("cams", "affinity_labels"):
        kill_ray.shutil.copytree(reference / "work" / name, folder / "work" / name)
    kill_ray.shutil.copy(reference / "mlflow.db", folder)
    assert kill_ray.differences(folder, reference, kill_ray.finished_files(folder / "work")) == []
    label = next((folder / "work/affinity_labels").rglob("*.png"))
    finished = {path: (stamp[0], 0) if path == label else stamp for path, stamp in kill_ray.finished_files(folder / "work").items()}
    label.write_bytes(b"other")
    name = label.relative_to(folder / "work")
    assert kill_ray.differences(folder, reference, finished) == [f"{name}: differs", f"work/{name}: written again"]
