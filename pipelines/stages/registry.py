"""MLflow's model registry: the exported ONNX file as two registered models, and which version is the champion.

    NAME           MLflow's own ONNX flavour: tensor `images` uint8 [B, H, W, 3] -> `mask` uint8 [B, H, W] (or what export.outputs says)
    NAME-images    encoded photos -> PNG masks (serving/mlflow_models/encoded_images.py), the ONNX runtime included

A version gets here only after the parity check. Its alias is `champion` when the mIoU of the very file passes the gates,
else `candidate`.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec
from PIL import Image

import tfwsss_mlflow_models
import tfwsss_onnx

CHAMPION, CANDIDATE = "champion", "candidate"
MIOU_TAG, EVALUATION_TAG = "miou", "evaluation_data"
EXAMPLE_SIZE = 96  # pixels

_IMAGES = ModelSignature(
    Schema([ColSpec(DataType.binary, "image")]),
    Schema([ColSpec(DataType.binary, "mask_png"), ColSpec(Array(DataType.string), "labels"), ColSpec(DataType.long, "height"), ColSpec(DataType.long, "width")]),
)


class Gates(NamedTuple):
    """What an export has shown before it is registered.

    Attributes:
        miou: of the ONNX file on the evaluation photos, 0..1; None where there are no masks.
        least: the mIoU that a champion must have.
        evaluation_data: identity of photos and masks; scores on other data are not compared.
    """

    miou: float | None
    least: float
    evaluation_data: str


class Registered(NamedTuple):
    """A version that was registered, and why it has its alias."""

    name: str
    version: int
    alias: str
    reason: str


def register(onnx, name: str, run_id: str, example: np.ndarray, gates: Gates, tags: dict[str, str]) -> list[Registered]:
    """Store both models in the run and register them as new versions.

    Args:
        onnx: the fp32 file.
        name: of the registered model; the second one is called `name`-images.
        run_id: the MLflow run that made the file; the models become artifacts of it.
        example: uint8 [H, W, 3]; scaled down it becomes the input example of both.
        tags: of the versions, besides mIoU and evaluation data.
    """
    client = MlflowClient()
    thumbnail = Image.fromarray(example)
    thumbnail.thumbnail((EXAMPLE_SIZE, EXAMPLE_SIZE))  # MLflow keeps examples as JSON numbers
    example = np.asarray(thumbnail)
    facts = tags | {EVALUATION_TAG: gates.evaluation_data} | ({MIOU_TAG: f"{gates.miou:.6f}"} if gates.miou is not None else {})
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / "onnx", f"{name}-images": Path(folder) / "images"}
        _save_tensors(onnx, folders[name], example)
        _save_images(onnx, folders[f"{name}-images"], example, Path(folder))
        return [_register_one(client, model, path, run_id, gates, facts) for model, path in folders.items()]


def _save_tensors(onnx, target: Path, example: np.ndarray) -> None:
    import mlflow.onnx
    import onnx as onnx_package

    model = onnx_package.load(onnx)
    mlflow.onnx.save_model(
        model,
        target,
        signature=ModelSignature(_tensors(model.graph.input), _tensors(model.graph.output)),
        input_example={"images": example[np.newaxis]},
        pip_requirements=_requirements("mlflow", "numpy", "onnx", "onnxruntime"),
        save_as_external_data=False,
    )


def _tensors(values) -> Schema:
    """Names, element types and shapes of an ONNX graph's inputs or outputs; free axes are -1."""
    from onnx.helper import tensor_dtype_to_np_dtype

    types = [(value.name, value.type.tensor_type) for value in values]
    return Schema([TensorSpec(np.dtype(tensor_dtype_to_np_dtype(kind.elem_type)), [axis.dim_value or -1 for axis in kind.shape.dim], name) for name, kind in types])


def _save_images(onnx, target: Path, example: np.ndarray, scratch: Path) -> None:
    encoded = io.BytesIO()
    Image.fromarray(example).save(encoded, "PNG")
    # Under the name it has when installed alone, so that it does not meet an installed `serving`.
    runtime = scratch / "tfwsss_onnx"
    shutil.copytree(Path(tfwsss_onnx.__file__).parent, runtime, ignore=shutil.ignore_patterns("__pycache__", "*.toml", "http_service"))
    with _importable(scratch, runtime.name):
        mlflow.pyfunc.save_model(
            target,
            python_model=str(Path(tfwsss_mlflow_models.__file__).with_name("encoded_images.py")),
            artifacts={"onnx": str(Path(onnx).resolve())},
            code_paths=[str(runtime)],
            signature=_IMAGES,
            input_example=pd.DataFrame({"image": [encoded.getvalue()]}),
            pip_requirements=_requirements("mlflow", "numpy", "pandas", "pillow", "onnxruntime"),
        )


@contextlib.contextmanager
def _importable(folder: Path, package: str):
    """MLflow tries the input example while saving; older releases do not look into `code_paths` for it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


def _requirements(*packages: str) -> list[str]:
    return [f"{package}=={_installed(package)}" for package in packages]


def _installed(package: str) -> str:
    """Version of a package; where only its GPU build is installed, that of the build."""
    for name in (package, f"{package}-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise metadata.PackageNotFoundError(package)


def _register_one(client: MlflowClient, name: str, folder: Path, run_id: str, gates: Gates, tags: dict[str, str]) -> Registered:
    place = f"registered/{folder.name}"
    client.log_artifacts(run_id, str(folder), place)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    version = int(client.create_model_version(name, source, run_id, tags=tags).version)
    alias, reason = _alias(_champion(client, name), gates)
    client.set_registered_model_alias(name, alias, str(version))
    if alias == CHAMPION and CANDIDATE in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, CANDIDATE)  # an older version, overtaken
    return Registered(name, version, alias, reason)


def _champion(client: MlflowClient, name: str):
    version = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if version is None else client.get_model_version(name, version)


def _alias(champion, gates: Gates) -> tuple[str, str]:
    if gates.miou is None:
        return CANDIDATE, "no evaluation photos with masks"
    if gates.miou < gates.least:
        return CANDIDATE, f"mIoU {gates.miou:.4f} is below export.champion_miou {gates.least:g}"
    if champion is None:
        return CHAMPION, f"mIoU {gates.miou:.4f}, no champion before"
    if champion.tags.get(EVALUATION_TAG) != gates.evaluation_data or MIOU_TAG not in champion.tags:
        return CANDIDATE, f"the champion, version {champion.version}, was not evaluated on the same photos"
    if gates.miou < float(champion.tags[MIOU_TAG]):
        return CANDIDATE, f"mIoU {gates.miou:.4f} is below {float(champion.tags[MIOU_TAG]):.4f} of the champion, version {champion.version}"
    return CHAMPION, f"mIoU {gates.miou:.4f}, {float(champion.tags[MIOU_TAG]):.4f} of version {champion.version} before"
