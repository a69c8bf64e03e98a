"""MLflow's model registry: the exported ONNX file as two registered models, and which version is the champion.

    NAME           MLflow's own ONNX flavour: tensor `images` uint8 [B, H, W, 3] -> `mask` uint8 [B, H, W] (or what export.outputs says)
    NAME-images    encoded photos -> PNG masks (serving/mlflow_models/encoded_images.py), the ONNX runtime included

A version gets here only after the parity check. Its alias is `champion` when the mIoU of the very file passes the gates,
else `candidate`. A file that a run has registered already is not registered a second time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
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
from tfwsss.errors import DataError

from ..engine.terminal import console

CHAMPION, CANDIDATE = "champion", "candidate"
MIOU_TAG, EVALUATION_TAG, FILE_TAG = "miou", "evaluation_data", "onnx_sha256"
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


def registration(onnx: Path, name: str, example: np.ndarray, gates: Gates, tags: dict[str, str]) -> dict:
    """What `register` needs, in JSON's types: it may be kept until MLflow answers.

    Args:
        onnx: the fp32 file; it must stay as it is until then.
        name: of the registered model; the second one is called `name`-images.
        example: uint8 [H, W, 3]; scaled down it becomes the input example of both.
        gates: see `Gates`.
        tags: of the versions, besides mIoU, evaluation data and the file's SHA-256.
    """
    thumbnail = Image.fromarray(example)
    thumbnail.thumbnail((EXAMPLE_SIZE, EXAMPLE_SIZE))  # MLflow keeps examples as JSON numbers
    encoded = io.BytesIO()
    thumbnail.save(encoded, "PNG")
    facts = tags | {EVALUATION_TAG: gates.evaluation_data, FILE_TAG: _digest(onnx)} | ({MIOU_TAG: f"{gates.miou:.6f}"} if gates.miou is not None else {})
    return {"onnx": str(onnx.resolve()), "name": name, "example": base64.b64encode(encoded.getvalue()).decode(), "gates": gates._asdict(), "tags": facts}


def _digest(file) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def register(client: MlflowClient, run_id: str, values: dict) -> list[Registered]:
    """Store both models in the run and register them as new versions.

    Args:
        client: of the store.
        run_id: the MLflow run that made the file; the models become artifacts of it.
        values: of `registration`.

    Raises:
        DataError: the file is gone, or another one.
    """
    onnx, name, gates, facts = Path(values["onnx"]), values["name"], Gates(**values["gates"]), values["tags"]
    if not onnx.is_file() or _digest(onnx) != facts[FILE_TAG]:
        raise DataError(f"{onnx}: gone or replaced before it could be registered as {name}")
    picture = base64.b64decode(values["example"])
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / "onnx", f"{name}-images": Path(folder) / "images"}
        _save_tensors(onnx, folders[name], np.asarray(Image.open(io.BytesIO(picture))))
        _save_images(onnx, folders[f"{name}-images"], picture, Path(folder))
        done = [_register_one(client, model, path, run_id, gates, facts) for model, path in folders.items()]
    for entry in done:
        console.print(f"  {entry.name} version {entry.version}: {entry.alias} ({entry.reason})", markup=False)
    return done


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


def _save_images(onnx, target: Path, picture: bytes, scratch: Path) -> None:
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
            input_example=pd.DataFrame({"image": [picture]}),
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
    version = _registered(client, name, run_id, tags[FILE_TAG]) or _new_version(client, name, folder, run_id, tags)
    alias, reason = _alias(_champion(client, name), gates)
    client.set_registered_model_alias(name, alias, str(version))
    if alias == CHAMPION and CANDIDATE in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, CANDIDATE)  # an older version, overtaken
    return Registered(name, version, alias, reason)


def _registered(client: MlflowClient, name: str, run_id: str, digest: str) -> int | None:
    """The version that a run which was interrupted has left."""
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    return next((int(version.version) for version in versions if version.name == name and version.tags.get(FILE_TAG) == digest), None)


def _new_version(client: MlflowClient, name: str, folder: Path, run_id: str, tags: dict[str, str]) -> int:
    place = f"registered/{folder.name}/{tags[FILE_TAG][:12]}"  # a version's files are never written over
    client.log_artifacts(run_id, str(folder), place)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    return int(client.create_model_version(name, source, run_id, tags=tags).version)


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
