"""Registered models in a real MLflow store: which alias a version gets, what it holds, and that it loads and predicts."""

import hashlib
import io
import pickletools
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.markdown import examples, run_example
from tests.mlflow_models.conftest import CLASSES, png, register
from tfwsss.config.files import parse_config
from tfwsss.errors import ConfigError, DataError
from tfwsss_onnx import Segmenter
from tfwsss_pipelines.stages import registry
from tfwsss_pipelines.stages.registry import Gates, registration


@pytest.fixture(scope="module")
def client(store):
    from mlflow.tracking import MlflowClient

    return MlflowClient(store[0])


@pytest.fixture(scope="module")
def models(store, onnx, photo):
    """URIs of a champion: of tensors, of images."""
    done = register(onnx, "animals", store[1](), photo, Gates(0.6, 0.5, "a"), {"licence": "CC0-1.0"})
    assert [(entry.name, entry.version, entry.alias) for entry in done] == [("animals", 1, "champion"), ("animals-images", 1, "champion")]
    return "models:/animals@champion", "models:/animals-images@champion"


def aliases(client, name) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_aliases_follow_the_gates(store, client, onnx, photo):
    def add(miou, least=0.5, data="a"):
        done = register(onnx, "gates", store[1](), photo, Gates(miou, least, data), {})
        assert done[0].alias == done[1].alias
        return done[0]

    assert add(None).reason == "no evaluation photos with masks"
    assert aliases(client, "gates") == {"candidate": 1}
    assert "below export.champion_miou 0.5" in add(0.49).reason
    assert aliases(client, "gates") == {"candidate": 2}
    assert "no champion before" in add(0.6).reason
    assert aliases(client, "gates") == {"champion": 3}
    assert "0.5900 is below 0.6000 of the champion, version 3" in add(0.59).reason
    assert aliases(client, "gates") == {"champion": 3, "candidate": 4}
    assert "not evaluated on the same photos" in add(0.9, data="b").reason
    assert add(0.6).alias == "champion"
    assert aliases(client, "gates") == aliases(client, "gates-images") == {"champion": 6}
    client.set_registered_model_alias("gates", "champion", "1")  # by hand: a version without a score
    client.set_registered_model_alias("gates-images", "champion", "1")
    assert "not evaluated" in add(0.9).reason


def test_tags_of_a_version(client, models, onnx):
    tags = client.get_model_version_by_alias("animals", "champion").tags
    assert tags == {"licence": "CC0-1.0", "miou": "0.600000", "evaluation_data": "a", "onnx_sha256": hashlib.sha256(onnx.read_bytes()).hexdigest()}


class Interrupted:
    """A client whose store goes away before a call."""

    def __init__(self, client, before):
        self._client, self._before = client, before

    def __getattr__(self, name):
        if name == self._before:
            raise ConnectionError(name)
        return getattr(self._client, name)


def test_a_registration_that_was_cut_is_ended_and_not_done_twice(store, client, onnx, photo):
    run, gates = store[1](), Gates(0.6, 0.5, "a")
    values = registration(onnx, "cut", photo, gates, {})
    for call in ("create_registered_model", "create_model_version", "set_registered_model_alias"):
        with pytest.raises(ConnectionError, match=call):
            registry.register(Interrupted(client, call), run, values)
    for _ in range(2):
        done = registry.register(client, run, values)
        assert [(entry.name, entry.version, entry.alias) for entry in done] == [("cut", 1, "champion"), ("cut-images", 1, "champion")]
    other = onnx.with_name("other.onnx")
    other.write_bytes(onnx.read_bytes())
    values = registration(other, "cut", photo, gates, {})
    other.write_bytes(onnx.read_bytes() + b"\x00")
    with pytest.raises(DataError, match="other.onnx: gone or replaced before it could be registered as cut"):
        registry.register(client, run, values)


def test_the_onnx_model(models, onnx, photo):
    model = mlflow.pyfunc.load_model(models[0])
    assert model.metadata.signature.inputs.to_dict() == [{"name": "images", "type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": (-1, -1, -1, 3)}}]
    assert [entry["name"] for entry in model.metadata.signature.outputs.to_dict()] == ["mask", "scores"]
    np.testing.assert_array_equal(model.predict({"images": photo[None]})["mask"][0], Segmenter(onnx, device="cpu")(photo))
    assert "onnx" in model.metadata.flavors
    assert model.input_example["images"].shape[3] == 3


def test_the_model_of_images(models, onnx, photo):
    model = mlflow.pyfunc.load_model(models[1])
    upright = Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    upright.save(file, "PNG", exif=exif)  # stored lying, shown as `photo`
    table = model.predict(pd.DataFrame({"image": [png(photo), file.getvalue()]}))
    mask = Segmenter(onnx, device="cpu")(photo)
    for _, row in table.iterrows():
        picture = Image.open(io.BytesIO(row["mask_png"]))
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), mask)
        assert row["labels"] == [CLASSES[label - 1] for label in np.unique(mask) if label]
        assert (row["height"], row["width"]) == mask.shape
    assert model.predict(model.input_example)["height"][0] > 0


@pytest.mark.parametrize("image", [b"no photo", b""])
def test_a_bad_image_is_named(models, photo, image):
    with pytest.raises(mlflow.exceptions.MlflowException, match="image 1: ") as raised:
        mlflow.pyfunc.load_model(models[1]).predict(pd.DataFrame({"image": [png(photo), image]}))
    assert raised.value.error_code == "INVALID_PARAMETER_VALUE"


def test_nothing_is_pickled(models, tmp_path):
    for uri in models:
        folder = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / uri[-20:].replace("/", "-")))
        for file in (path for path in Path(folder).rglob("*") if path.is_file()):
            assert file.suffix not in (".pkl", ".pickle", ".pt", ".joblib"), file
            with pytest.raises(Exception):  # noqa: B017 - whatever pickletools raises, it is no pickle
                list(pickletools.genops(file.read_bytes()))


def test_the_model_of_images_loads_without_the_project_and_tensorflow(models, store, photo, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(photo))
    code = (
        "import sys, mlflow, pandas as pd\n"
        "sys.modules.update(dict.fromkeys(('tensorflow', 'keras', 'tfwsss', 'pipelines', 'serving')))\n"  # importing them fails
        f"mlflow.set_tracking_uri({store[0]!r})\n"
        f"table = mlflow.pyfunc.load_model({models[1]!r}).predict(pd.DataFrame({{'image': [open('photo.png', 'rb').read()]}}))\n"
        "print(table['height'][0], table['width'][0])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "37 53", done.stderr[-2000:]


@pytest.mark.parametrize("name", ["", "a/b", "a:b"])
def test_names_that_the_registry_refuses(name):
    with pytest.raises(ConfigError, match="registered_model"):
        parse_config({"data": {"format": "scenes"}, "export": {"registered_model": name}})


@pytest.mark.parametrize("example", examples("mlflow"), ids=str)
def test_examples_of_the_pages(store, models, photo, tmp_path, example):
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    run_example(example, tmp_path, MLFLOW_TRACKING_URI=store[0])
