"""Two processes on one machine train as one does; the pipeline with two workers leaves what one leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tfwsss.errors import StackError
from tfwsss.training.cluster import Cluster, find_cluster

DRIVER = Path(__file__).parent / "training_workers.py"
NETWORKS = ["classifier", "affinitynet", "segmenter"]


@pytest.fixture(scope="module")
def trained(run_workers, tmp_path_factory):
    """What training_workers.py found with 1 process and with 2: {number: [result of each]}, and the folder."""
    folder = tmp_path_factory.mktemp("workers")
    found = {}
    for count in (1, 2):
        done = run_workers(count, [str(DRIVER), str(folder / str(count))], folder)
        for process in done:
            assert process.returncode == 0, process.stderr[-3000:]
        found[count] = [json.loads(process.stdout.splitlines()[-1]) for process in done]
    return found, folder


# Sums over two parts of a batch are rounded differently; gradients that are not summed move the loss by 2e-3 and more.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_two_workers_have_the_loss_curve_of_one(trained, network):
    (alone,), two = trained[0][1], trained[0][2]
    assert [worker["replicas"] for worker in two] == [2, 2]
    expected = alone["found"][network]
    assert abs(expected["history"][0]["loss"] - expected["history"][1]["loss"]) > 1e-3
    for worker in two:
        found = worker["found"][network]
        for entry, other in zip(expected["history"], found["history"], strict=True):
            assert set(entry) == set(other) and ("f1" in entry) == (network == "classifier")
            for name, value in entry.items():
                np.testing.assert_allclose(other[name], value, err_msg=name, **CLOSE)
        for name, value in expected["weights"].items():
            np.testing.assert_allclose(found["weights"][name], value, err_msg=name, **CLOSE)
    assert two[0]["found"] == two[1]["found"]


@pytest.mark.slow
def test_only_the_chief_writes(trained):
    _, folder = trained
    for network in NETWORKS:
        assert [path.name for path in (folder / "2" / network).iterdir()] == ["checkpoint.safetensors"]


PIPELINE = {
    "name": "workers",
    "data": {"format": "scenes", "train_images": 4, "val_images": 2, "size": 96},
    "classifier": {
        "model": {"backbone": "vgg16", "width": 0.0625, "freeze": False},
        "optimizer": {"name": "adam", "learning_rate": 0.0001},
        "epochs": 2,
        "batch_size": 2,
        "resize_long": [64, 96],
        "crop": 64,
    },
    "runtime": {"workers": 1},
}


@pytest.mark.slow
def test_pipeline_with_two_workers(run_workers, tmp_path):
    """The chief opens the MLflow runs and writes; the other takes part in the training stage and waits otherwise."""
    from mlflow.tracking import MlflowClient

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(PIPELINE))
    store = f"sqlite:///{tmp_path}/mlflow.db"
    command = ["-m", "tfwsss_pipelines.cli", "run", "config.yaml", "--until", "cams", "--work-dir", "work"]
    chief, other = run_workers(2, command, tmp_path, MLFLOW_TRACKING_URI=store)
    assert chief.returncode == other.returncode == 0, chief.stderr[-2000:] + other.stderr[-2000:]
    history = json.loads((tmp_path / "work/classifier/history.json").read_text())
    assert len(history) == 2 and all(0 <= entry["f1"] <= 1 for entry in history)
    assert "worker 1: classifier" in other.stderr and "cams" not in other.stderr and "mlflow" not in other.stderr
    assert len(list((tmp_path / "work/cams/train").iterdir())) == 4
    runs = MlflowClient(store).search_runs([MlflowClient(store).get_experiment_by_name("workers").experiment_id])
    assert sorted(run.data.tags["mlflow.runName"] for run in runs) == ["cams", "classifier", "data", "work"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    # The same again: both find that there is nothing to do.
    chief, other = run_workers(2, command, tmp_path, MLFLOW_TRACKING_URI=store)
    assert chief.returncode == other.returncode == 0, chief.stderr[-2000:] + other.stderr[-2000:]
    assert "classifier: unchanged, reused" in chief.stderr and "worker 1: classifier" not in other.stderr


@pytest.mark.slow
def test_the_chiefs_error_ends_the_others(run_workers, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"format": "folder", "root": "nowhere"}}))
    chief, other = run_workers(2, ["-m", "tfwsss_pipelines.cli", "run", "config.yaml", "--work-dir", "work"], tmp_path)
    assert chief.returncode == other.returncode == 2, chief.stderr[-2000:] + other.stderr[-2000:]
    assert "nowhere" in chief.stderr
    assert "worker 1: the chief has failed" in other.stderr


def config(task, **jobs):
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": task})}


def test_cluster_of_the_environment():
    assert find_cluster({}) == find_cluster({"TF_CONFIG": " "}) == Cluster(1, 0)
    assert find_cluster(config({"type": "worker", "index": 1}, worker=["a:1", "b:1", "c:1"])) == Cluster(3, 1)
    assert find_cluster(config({"type": "chief", "index": 0}, chief=["a:1"], worker=["b:1"])) == Cluster(2, 0)
    assert find_cluster(config({"type": "worker", "index": 0}, chief=["a:1"], worker=["b:1"])) == Cluster(2, 1)
    assert not Cluster(2, 1).chief


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "not a description of a cluster"),
        ({"TF_CONFIG": "[]"}, "not a description of a cluster"),
        (config({"type": "worker"}, worker=["a:1"]), "not a description of a cluster"),
        (config({"type": "worker", "index": 2}, worker=["a:1", "b:1"]), "worker 2, which the cluster does not have"),
        (config({"type": "ps", "index": 0}, worker=["a:1"], ps=["b:1"]), "chief and worker, found 'ps'"),
        (config({"type": "chief", "index": 0}, chief=["a:1", "b:1"]), "one chief, found 2"),
    ],
)
def test_a_wrong_cluster_is_refused(environment, message):
    with pytest.raises(StackError, match=message):
        find_cluster(environment)
