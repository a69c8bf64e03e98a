"""Where runs are kept, and that runs which start at the same moment can share it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPEN = "from tfwsss_pipelines.engine.tracking import Tracker\nwith Tracker('animals').pipeline_run('a run'): pass"


def test_runs_are_kept_in_sqlite_where_nothing_else_is_said(tmp_path):
    (tmp_path / "mlruns").mkdir()  # with which newer MLflow releases would keep runs there; older ones always do
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", OPEN], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock", "mlruns"]

    from mlflow.tracking import MlflowClient

    assert MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_experiment_by_name("animals") is not None


def test_mlflow_prints_no_address_with_its_password():
    code = "import tfwsss_pipelines\nfrom mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as hidden\nprint(hidden.get())"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.slow
def test_runs_that_start_together_make_one_store_and_one_experiment(tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", OPEN], cwd=tmp_path, env=environment, **pipes) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]

    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("animals")
    assert len(client.search_runs([experiment.experiment_id])) == 3
