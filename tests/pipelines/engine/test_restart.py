"""kill -9 in the middle of every stage, then the same command: the same results as without, and nothing done twice."""

import hashlib
import json
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

TRAIN, VAL = 6, 3  # photos of the tiny configuration
BATCHES = 3  # per epoch

# Bar of every stage, when it is killed, and how many advances are left for the second run: for per-image stages the
# rest (an image whose bar had advanced is on disk), for trainings the epochs behind the last whole one.
KILLS = {
    "classifier": (BATCHES + 2, 2 * BATCHES),
    "cams": (2, TRAIN),
    "affinity_labels": (2, None),
    "affinitynet": (BATCHES + 2, 2 * BATCHES),
    "pseudo_labels": (2, None),
    "CAM + CRF": (2, None),
    "segmenter": (BATCHES + 2, 2 * BATCHES),
    "segmenter on the evaluation photos": (1, None),
}
LABELS = ("affinity_labels", "pseudo_labels", "label_scores", "evaluate")
WEIGHTS = ("classifier", "affinitynet", "segmenter")


def results(work: Path) -> dict[str, str]:
    """Digest of every label map and of every array of the trained networks."""
    from safetensors.numpy import load_file

    found = {}
    for stage in LABELS:
        for path in sorted((work / stage).rglob("*.png")):
            found[str(path.relative_to(work))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for stage in WEIGHTS:
        for name, array in load_file(work / stage / "weights.safetensors").items():
            found[f"{stage}/{name}"] = hashlib.sha256(array.tobytes()).hexdigest()
    return found


def finished_images(work: Path) -> list[Path]:
    """Not the hidden files that were being written when the process died: the next run removes them."""
    return [path for path in work.rglob("*") if path.suffix in (".png", ".npz") and not path.name.startswith(".")]


def test_killed_in_every_stage(tmp_path, tiny_config, finished, cli):
    command = ("run", str(tiny_config), "--work-dir", "work", "--until", "evaluate")
    modified: dict[Path, int] = {}
    for bar, (count, left) in KILLS.items():
        log = tmp_path / f"{bar}.log"
        done = cli(tmp_path, *command, driver=(bar, str(count), str(log)))
        assert done.returncode == -signal.SIGKILL, done.stderr
        before = {path: path.stat().st_mtime_ns for path in finished_images(tmp_path / "work")}
        assert before.items() >= modified.items(), f"files written again before the kill in {bar}"
        modified = before
        assert Counter(log.read_text().splitlines())[bar] == count
        if left is not None and bar != "cams":
            state = json.loads((tmp_path / "work" / bar / "stage.json").read_text())
            assert not state["finished"]
    log = tmp_path / "last.log"
    done = cli(tmp_path, *command, driver=("none", "1", str(log)))
    assert done.returncode == 0, done.stderr
    for path, time in modified.items():
        assert path.stat().st_mtime_ns == time, f"{path} was computed twice"
    assert results(tmp_path / "work") == results(finished)


def copy_of(finished: Path, folder: Path) -> None:
    shutil.copytree(finished, folder / "work")  # with the times of the files, which the data stage compares
    shutil.copy(finished.parent / "mlflow.db", folder / "mlflow.db")


def started(done) -> list[str]:
    return [line.split()[1] for line in done.stderr.splitlines() if line.startswith("▶")]


def test_unchanged_run_reuses_all_and_a_changed_parameter_reruns_from_its_stage(finished, tiny_config, cli, tmp_path):
    copy_of(finished, tmp_path)
    command = ("run", str(tiny_config), "--work-dir", "work", "--until", "evaluate")
    done = cli(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("unchanged, reused") == 10
    assert started(done) == []
    done = cli(tmp_path, *command, "--set", "pseudo_labels.steps=64")
    assert done.returncode == 0, done.stderr
    assert started(done) == ["pseudo_labels", "label_audit", "label_scores", "segmenter", "evaluate"]


def test_a_changed_mask_only_scores_anew(finished, tiny_config, cli, tmp_path):
    copy_of(finished, tmp_path)
    mask = next((tmp_path / "work/scenes/masks").rglob("*.png"))
    with Image.open(mask) as picture:
        label = picture.copy()
    label.putpixel((0, 0), 255)
    label.save(mask)
    done = cli(tmp_path, "run", str(tiny_config), "--work-dir", "work", "--until", "evaluate")
    assert done.returncode == 0, done.stderr
    assert started(done) == ["data", "label_scores", "evaluate"]
