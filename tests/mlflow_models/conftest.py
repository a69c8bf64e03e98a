"""Exported files of a tiny network, and an MLflow store of its own for each test module."""

import io
import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import tfwsss_pipelines  # noqa: F401 - switches MLflow's telemetry off before MLflow is imported
from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH
from tfwsss_pipelines.stages import registry

CLASSES = ("cat", "dog", "horse")


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def register(onnx, name, run, photo, gates, tags):
    """As a stage does, by way of JSON."""
    from mlflow.tracking import MlflowClient

    return registry.register(MlflowClient(), run, json.loads(json.dumps(registry.registration(onnx, name, photo, gates, tags))))


@pytest.fixture(scope="module", autouse=True)
def own_modules():
    """Loading a model puts its code folders on sys.path and drops the modules of those names from sys.modules: other tests of this process keep theirs."""
    path = list(sys.path)
    before = {name: module for name, module in sys.modules.items() if name.startswith("tfwsss")}
    yield
    for name in [name for name, module in sys.modules.items() if "/code/tfwsss" in (getattr(module, "__file__", None) or "")]:
        del sys.modules[name]
    sys.modules.update(before)
    sys.path[:] = path


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """uint8 [37, 53, 3]."""
    return np.random.default_rng(4).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.fixture(scope="session")
def onnx(tmp_path_factory):
    """An fp32 export with both outputs."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(len(CLASSES) + 1, 1)(x))
    return export_onnx(model, tmp_path_factory.mktemp("onnx") / "model.onnx", class_names=CLASSES, normalization=TORCH, outputs=("mask", "scores"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """(address of a tracking store, function that opens a run in it and returns its id); MLflow uses it while the module runs."""
    import mlflow
    from mlflow.tracking import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    address, before = f"sqlite:///{folder}/mlflow.db", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(address)
    client = MlflowClient()
    experiment = client.create_experiment("test", artifact_location=str(folder / "artifacts"))
    yield address, lambda: client.create_run(experiment).info.run_id
    mlflow.set_tracking_uri(before)
