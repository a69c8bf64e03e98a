"""All stages that work photo by photo leave on Ray what they leave in one process, byte for byte."""

import shutil
import sqlite3
from importlib.util import find_spec

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")]
FOLDERS = ("cams", "affinity_labels", "walk", "label_votes", "pseudo_labels", "label_audit", "label_scores", "evaluate")
OF_A_RUN = ("stage.json", "files.json")  # times and run ids


def test_stages_on_ray_leave_what_the_threads_of_a_process_leave(finished, tiny_config, tmp_path, cli):
    shutil.copytree(finished, tmp_path / "work", ignore=shutil.ignore_patterns(*FOLDERS, "export", "report", "bundle"))
    # One actor with all cores: ONNX Runtime rounds otherwise with another number of threads.
    done = cli(tmp_path, "run", str(tiny_config), "--work-dir", "work", "--until", "evaluate", "--set", "runtime.executor=ray")
    assert done.returncode == 0, done.stderr
    assert "segmenter: unchanged, reused" in done.stderr  # the labels are those that it was trained on
    paths = [path.relative_to(finished) for name in FOLDERS for path in (finished / name).rglob("*") if path.is_file() and path.name not in OF_A_RUN]
    assert len(paths) > 60
    assert [path for path in paths if (tmp_path / "work" / path).read_bytes() != (finished / path).read_bytes()] == []
    assert not list((tmp_path / "work").rglob(".tfwsss-*"))
    with sqlite3.connect(f"file:{tmp_path}/mlflow.db?mode=ro", uri=True) as database:
        seconds = dict(database.execute("select key, value from metrics where key like 'seconds/%'"))
    for name in ("cams/device", "cams/writing", "affinity_labels/CRF", "pseudo_labels/walk"):
        assert seconds[f"seconds/{name}"] > 0
