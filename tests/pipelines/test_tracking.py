"""Runs that start at the same moment share a tracking store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = "from pipelines.tracking import Tracker\nwith Tracker('animals').pipeline_run('a run'): pass"


@pytest.mark.slow
def test_runs_that_start_together_make_one_store_and_one_experiment(tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", OPEN], cwd=tmp_path, env=environment, **pipes) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]

    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("animals")
    assert len(client.search_runs([experiment.experiment_id])) == 3
