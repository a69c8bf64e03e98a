"""A pipeline small enough to run in seconds, and a way to kill it at a chosen image."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.command import environment_with, run_command
from tests.decoys import make_decoys
from tests.pipelines.warm_start import forked

TINY = {
    "name": "tiny",
    "data": {"format": "scenes", "train_images": 6, "val_images": 3, "size": 96},
    "classifier": {
        "model": {"backbone": "vgg16", "width": 0.0625, "freeze": False},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": 3,
        "batch_size": 2,
        "resize_long": [64, 96],
        "crop": 64,
    },
    "cams": {"scales": [1.0, 0.5]},
    "affinitynet": {
        "model": {"backbone": "vgg16", "width": 0.0625, "freeze": False, "weights": "classifier"},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": 3,
        "batch_size": 2,
        "crop": 72,
    },
    "pseudo_labels": {"smallest_share": 0.0},  # networks that have learnt nothing must not lose their photos
    "segmenter": {
        "model": {"backbone": "resnet38", "width": 0.0625, "freeze": False, "batch_norm": "train"},
        "optimizer": {"name": "adam", "learning_rate": 0.001},
        "epochs": 3,
        "batch_size": 2,
        "crop": 64,
    },
    "evaluate": {"scales": [1.0, 0.5], "cams": True},
    "export": {"precisions": ["fp32", "fp16", "int8"], "outputs": ["mask", "scores"], "calibration_images": 2, "miou_budget": 1.0, "licence": "CC0-1.0"},
    "report": {"images": 2},
    "runtime": {"workers": 1},
}

DRIVER = Path(__file__).parent / "kill_driver.py"


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def cli(tmp_path_factory):
    """Run `tfwsss ARGUMENTS` in a folder with an MLflow store of its own; `driver` arguments go to kill_driver.py."""
    logs, users = tmp_path_factory.mktemp("logs"), make_decoys(tmp_path_factory.mktemp("users"))

    def run(folder: Path, *arguments: str, driver: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        program, words = (str(DRIVER), (*driver, *arguments)) if driver else ("tfwsss_pipelines.cli", arguments)
        return forked(folder, program, words, environment_with(users, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db"), logs)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_config) -> Path:
    """Work directory of a whole, uninterrupted run of the command as users start it. Tests must leave it as it is."""
    folder = make_decoys(tmp_path_factory.mktemp("finished"))
    done = run_command(folder, "run", str(tiny_config), "--work-dir", "work", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
    assert done.returncode == 0, done.stderr
    return folder / "work"
