"""The model repository, read by Triton's own schema of config.pbtxt; no server is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import numpy as np
import onnx
import pytest
import yaml
from google.protobuf import text_format
from onnx.helper import tensor_dtype_to_np_dtype
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from tests.markdown import ROOT
from tests.serving.conftest import CLASSES, network
from tests.triton.conftest import config
from tfwsss.errors import ConfigError, ExportError
from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH
from tfwsss_pipelines.deployment.exported import read_exported
from tfwsss_pipelines.deployment.triton import REQUIREMENTS, write_triton


def read(repository, name: str):
    return text_format.Parse((repository / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def parameters(model) -> dict[str, str]:
    return {key: value.string_value for key, value in model.parameters.items()}


@pytest.mark.parametrize("name", ["segmenter", "segmenter-images"])
def test_what_both_models_say(bundle, name):
    model = read(bundle / "model_repository", name)
    assert (model.name, model.max_batch_size, list(model.version_policy.specific.versions)) == (name, 8, [1])
    batching = model.dynamic_batching
    assert batching.max_queue_delay_microseconds == 2000
    queue = batching.default_queue_policy
    assert (queue.timeout_action, queue.default_timeout_microseconds, queue.max_queue_size) == (model_config_pb2.ModelQueuePolicy.REJECT, 30_000_000, 64)
    assert json.loads(parameters(model)["labels"]) == ["background", *CLASSES]


def kinds(tensors) -> list[tuple]:
    return [(each.name, triton_to_np_dtype(model_config_pb2.DataType.Name(each.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")), list(each.dims)) for each in tensors]


@pytest.mark.parametrize("outputs", [("mask",), ("scores", "mask")])
def test_the_tensors_are_those_of_the_onnx_file(tmp_path, outputs):
    path = export_onnx(network(False), tmp_path / "model.onnx", class_names=CLASSES, normalization=TORCH, outputs=outputs)
    write_triton(config(model_name="animals", max_batch_size=3), read_exported(path), [1], tmp_path / "triton")
    model = read(tmp_path / "triton/model_repository", "animals")
    assert (model.backend, model.max_batch_size) == ("onnxruntime", 3)
    graph = onnx.load(tmp_path / "triton/model_repository/animals/1/model.onnx").graph
    for tensors, values in ((model.input, graph.input), (model.output, graph.output)):
        # Triton adds the batch itself: the first axis, which must be free.
        assert all(value.type.tensor_type.shape.dim[0].dim_param for value in values)
        types = [value.type.tensor_type for value in values]
        shapes = [[axis.dim_value or -1 for axis in kind.shape.dim][1:] for kind in types]
        assert kinds(tensors) == [(value.name, tensor_dtype_to_np_dtype(kind.elem_type), shape) for value, kind, shape in zip(values, types, shapes, strict=True)]


def test_the_model_of_files(bundle):
    model = read(bundle / "model_repository", "segmenter-images")
    assert model.backend == "python" and parameters(model)["max_megapixels"] == "1"
    assert kinds(model.input) == [("image_bytes", np.object_, [1])] and kinds(model.output) == [("mask_png", np.object_, [1])]
    assert [group.kind for group in model.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_CPU]


def test_it_carries_all_the_code_it_runs(bundle):
    folder = bundle / "model_repository/segmenter-images/1"
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import tfwsss_onnx, tfwsss_triton.photo_batch as batch; print(tfwsss_onnx.__file__); print(batch.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(line.startswith(str(folder)) for line in done.stdout.splitlines()) and len(done.stdout.splitlines()) == 2
    assert not list(folder.rglob("http_service"))


def test_versions_that_an_earlier_bundle_has_left_are_loaded_beside_the_new_one(exported, tmp_path):
    def versions(version: int, labelled: list[int]) -> list[int]:
        write_triton(config(version), read_exported(exported()), labelled, tmp_path)
        found = [list(read(tmp_path / "model_repository", name).version_policy.specific.versions) for name in ("segmenter", "segmenter-images")]
        assert found[0] == found[1]
        return found[0]

    assert versions(2, [1, 2]) == [2]  # no bundle was written of version 1
    assert versions(3, [2, 3]) == [2, 3]
    assert versions(4, [4]) == [4]
    assert (tmp_path / "model_repository/segmenter-images/2/model.py").is_file()


def test_writing_again_replaces_and_leaves_what_is_not_ours(exported, tmp_path):
    write_triton(config(), read_exported(exported()), [1], tmp_path)
    (tmp_path / "model_repository/segmenter/1/notes.txt").write_text("mine")
    (tmp_path / "model_repository/segmenter/1/model.onnx").unlink()
    (tmp_path / "model_repository/segmenter/1/model.onnx").write_bytes(b"old")
    write_triton(config(), read_exported(exported()), [1], tmp_path)
    assert (tmp_path / "model_repository/segmenter/1/model.onnx").read_bytes() == exported().read_bytes()
    assert (tmp_path / "model_repository/segmenter/1/notes.txt").read_text() == "mine"


def test_image_and_compose_file(exported, tmp_path):
    serving = {"model_name": "Animals.v2", "triton": {"image": "registry.example/animals:3", "tag": "25.01-py3", "http_port": 9000}, "memory_limit": "900m"}
    write_triton(config(**serving), read_exported(exported()), [1], tmp_path)
    dockerfile = (tmp_path / "Dockerfile").read_text()
    assert "\nFROM nvcr.io/nvidia/tritonserver:25.01-py3\n" in dockerfile and all(f'"{each}"' in dockerfile for each in REQUIREMENTS)
    [(name, service)] = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())["services"].items()
    assert name == "animals" and service["image"] == "registry.example/animals:3" and service["mem_limit"] == "900m"
    assert service["ports"] == ["127.0.0.1:9000:8000", "127.0.0.1:8001:8001", "127.0.0.1:8002:8002"]
    [volume] = service["volumes"]
    assert (tmp_path / volume["source"]).is_dir() and volume["read_only"] is True and f"--model-repository={volume['target']}" in service["command"]


def test_the_image_has_what_the_runtime_needs():
    needs = tomllib.loads((ROOT / "serving/onnx/pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(each.removesuffix(",<2") for each in REQUIREMENTS) == sorted(needs)


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(ExportError, match="model.onnx: no such file, run the export first"):
        read_exported(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"no protobuf")
    with pytest.raises(ExportError, match="not exported by tfwsss"):
        read_exported(tmp_path / "model.onnx")


@pytest.mark.parametrize("triton", [{"image": "Upper/case"}, {"image": "a b"}, {"tag": "x; rm"}, {"http_port": 8001}])
def test_wrong_settings_are_refused(triton):
    with pytest.raises(ConfigError, match="serving.triton"):
        config(triton=triton)
