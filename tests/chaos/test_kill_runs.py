"""The small form of `python -m tests.chaos.kill_runs`: a few kills, among them one while MLflow's store is made."""

import random

import pytest

from tests.chaos import kill_runs

pytestmark = pytest.mark.slow
UNTIL = "label_scores"


def test_a_run_that_was_killed_leaves_what_an_uninterrupted_one_leaves(tmp_path):
    reference, seconds = kill_runs.uninterrupted(tmp_path / "reference", UNTIL)
    assert kill_runs.differences(reference, reference) == []
    kills, wrong = kill_runs.one_life(tmp_path / "life", reference, UNTIL, random.Random(3), seconds, most_kills=3)
    assert wrong == []
    assert kills


def test_differences_are_seen(tmp_path):
    reference, _ = kill_runs.uninterrupted(tmp_path / "reference", "data")
    quarantine = reference / "work/data/quarantine.csv"
    other = tmp_path / "other"
    kill_runs.shutil.copytree(reference, other)
    (other / "work/data/quarantine.csv").write_text(quarantine.read_text() + "more\n")
    (other / "work/data/.lost.tmp.json").touch()
    with kill_runs.sqlite3.connect(other / "mlflow.db") as database:
        database.execute("update runs set status = 'RUNNING' where name = 'data'")
    wrong = kill_runs.differences(other, reference)
    assert wrong == ["data/quarantine.csv: differs", "work/data/.lost.tmp.json: left over", "data: still running in MLflow"]
