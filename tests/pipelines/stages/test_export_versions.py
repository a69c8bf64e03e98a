"""A second version of a finished run's export: beside the first, in the bundle as canary, in MLflow's model registry."""

import hashlib
import json
import shutil

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig


def labels(work) -> dict[str, int]:
    models = text_format.Parse((work / "export/bundle/models.config").read_text(), ModelServerConfig())
    return dict(models.model_config_list.config[0].version_labels)


def digests(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_second_version_beside_the_first(finished, tiny_config, tmp_path, cli):
    from mlflow.tracking import MlflowClient

    work = tmp_path / "work"
    shutil.copytree(finished, work)
    arguments = ("export", str(tiny_config), "--work-dir", "work", "--bundle")
    done = cli(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "▶" not in done.stderr and str(work / "export/bundle") in done.stdout.replace("\n", "")
    assert labels(work) == {"stable": 1, "canary": 1}
    first = digests(work / "export/saved_model/1")
    assert "assets.extra/tf_serving_warmup_requests" in first

    changed = (*arguments, "--set", "export.version=2", "--set", "export.tflite=[64, 80]", "--set", "export.registered_model=animals", "--set", "export.precisions=[fp32]")
    done = cli(tmp_path, *changed)
    assert done.returncode == 0, done.stderr
    assert digests(work / "export/saved_model/1") == first
    assert labels(work) == {"stable": 1, "canary": 2}
    assert sorted(path.name for path in (work / "export/saved_model").iterdir()) == ["1", "2"]
    assert {path.parent.name for path in (work / "export/bundle/triton/model_repository/segmenter").glob("*/model.onnx")} == {"1", "2"}
    assert "versions: 1\n    versions: 2" in (work / "export/bundle/triton/model_repository/segmenter/config.pbtxt").read_text()
    tflite = json.loads((work / "export/parity.json").read_text())["artefacts"]["tflite"]
    assert tflite["path"] == "model.tflite" and tflite["images"] >= 6 and tflite["pixels"] == tflite["images"] * 64 * 80
    card = (work / "export/bundle/hugging_face/README.md").read_text()
    assert "`model.tflite` is for LiteRT: one photo of 64x80 pixels" in card and (work / "export/bundle/hugging_face/model.tflite").is_file()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    parity = json.loads((work / "export/parity.json").read_text())
    for name in ("animals", "animals-images"):
        version = client.get_model_version_by_alias(name, "champion")
        assert version.run_id == json.loads((work / "export/stage.json").read_text())["run_id"]
        assert float(version.tags["miou"]) == pytest.approx(parity["accuracy"]["reference"]["miou"], abs=1e-6)
        assert version.tags["saved_model_version"] == "2" and version.tags["data_digest"]

    done = cli(tmp_path, *changed, "--set", "serving.stable=7")
    assert done.returncode == 2
    assert "serving.stable: version 7 is not below export/saved_model, found 1, 2" in done.stderr
