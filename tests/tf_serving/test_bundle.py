"""The bundle for TensorFlow Serving, read by TensorFlow Serving's own messages and by the rules of compose files.

No container is started here: that needs a Docker engine.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, text_format, wrappers_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tests.tf_serving.conftest import png
from tfwsss.config import Serving
from tfwsss.config.files import parse_config
from tfwsss.errors import ConfigError, ExportError
from tfwsss_pipelines.deployment.tf_serving import saved_versions, version_labels, write_tf_serving
from tfwsss_tf_serving.messages import message_class

_Field = descriptor_pb2.FieldDescriptorProto


def config(**serving):
    return parse_config({"data": {"format": "scenes"}, "serving": serving})


def declared(name: str, fields: dict, uses: dict | None = None):
    """A message that tensorflow-serving-api leaves out, by its field numbers and types in TensorFlow Serving's sources."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="check", syntax="proto3", dependency=["google/protobuf/wrappers.proto"])
    for message, content in {**(uses or {}), name: fields}.items():
        entry = file.message_type.add(name=message)
        for field, (number, kind) in content.items():
            scalar = kind if isinstance(kind, int) else _Field.TYPE_MESSAGE
            type_name = {} if isinstance(kind, int) else {"type_name": kind}
            entry.field.add(name=field, number=number, label=_Field.LABEL_OPTIONAL, type=scalar, **type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_class(pool.FindMessageTypeByName(f"check.{name}"))


_INT64 = ".google.protobuf.Int64Value"
BatchingParameters = declared(
    "BatchingParameters", {"max_batch_size": (1, _INT64), "batch_timeout_micros": (2, _INT64), "max_enqueued_batches": (3, _INT64), "num_batch_threads": (4, _INT64)}
)
MonitoringConfig = declared(
    "MonitoringConfig",
    {"prometheus_config": (1, ".check.PrometheusConfig")},
    {"PrometheusConfig": {"enable": (1, _Field.TYPE_BOOL), "path": (2, _Field.TYPE_STRING)}},
)


@pytest.fixture
def work(versions):
    """A work directory with the versions 1 and 2."""
    return versions.parents[1]


def write_bundle(config, work: Path) -> Path:
    folder = work / "export/bundle"
    write_tf_serving(config.serving, work / "export/saved_model", folder)
    return folder


def model_config(folder: Path):
    models = text_format.Parse((folder / "models.config").read_text(), ModelServerConfig())
    assert len(models.model_config_list.config) == 1
    return models.model_config_list.config[0]


def test_models_config_serves_the_labelled_versions(work):
    model = model_config(write_bundle(config(), work))
    assert (model.name, model.base_path, model.model_platform) == ("segmenter", "/models/segmenter", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def test_labels_are_settable_and_other_versions_not_loaded(work):
    model = model_config(write_bundle(config(model_name="animals", stable=2, canary=2), work))
    assert list(model.model_version_policy.specific.versions) == [2]
    assert dict(model.version_labels) == {"stable": 2, "canary": 2}
    assert model.base_path == "/models/animals"


@pytest.mark.parametrize(
    ("serving", "versions", "expected"),
    [
        ({}, [1], (1, 1)),
        ({}, [2, 9, 10], (9, 10)),
        ({"stable": 10}, [9, 10], (10, 10)),
        ({"canary": 9}, [2, 9, 10], (2, 9)),
        ({"canary": 2}, [2, 9], (2, 2)),
    ],
)
def test_default_labels(serving, versions, expected):
    assert tuple(version_labels(Serving(**serving), versions).values()) == expected


def test_versions_that_are_not_there(work, tmp_path):
    with pytest.raises(ExportError, match="serving.stable: version 3 is not below export/saved_model, found 1, 2"):
        write_bundle(config(stable=3), work)
    with pytest.raises(ExportError, match="no version to serve"):
        write_bundle(config(), tmp_path)
    assert not (tmp_path / "export/bundle").exists()


def test_versions_are_numbers_with_a_model(tmp_path):
    for name in ("10", "9", "2.tmp", "latest"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()
    assert saved_versions(tmp_path) == [9, 10]


def test_batching_and_monitoring_are_what_the_server_reads(work):
    folder = write_bundle(config(max_batch_size=4, batch_timeout_ms=1.5), work)
    batching = text_format.Parse((folder / "batching.config").read_text(), BatchingParameters())
    assert (batching.max_batch_size.value, batching.batch_timeout_micros.value, batching.max_enqueued_batches.value) == (4, 1500, 100)
    monitoring = text_format.Parse((folder / "monitoring.config").read_text(), MonitoringConfig())
    assert monitoring.prometheus_config.enable and monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def compose(folder: Path, name: str = "docker-compose.yml") -> dict:
    services = yaml.safe_load((folder / name).read_text())["services"]
    assert len(services) == 1
    return next(iter(services.values()))


def test_compose_files(work):
    folder = write_bundle(config(rest_port=9501, grpc_port=9500, image_tag="2.19.0"), work)
    cpu, gpu = compose(folder), compose(folder, "docker-compose.gpu.yml")
    assert cpu["image"] == "tensorflow/serving:2.19.0" and gpu["image"] == "tensorflow/serving:2.19.0-gpu"
    for service in (cpu, gpu):
        assert service["ports"] == ["127.0.0.1:9501:8501", "127.0.0.1:9500:8500"]
        flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
        targets = {volume["target"]: volume for volume in service["volumes"]}
        assert all(volume["type"] == "bind" and volume["read_only"] is True for volume in targets.values())
        model = targets[model_config(folder).base_path]
        assert (folder / model["source"]).resolve() == (work / "export/saved_model").resolve()
        for flag in ("model_config_file", "monitoring_config_file"):
            file = Path(flags[flag])
            assert (folder / targets[str(file.parent)]["source"] / file.name).is_file()
        assert "enable_batching" not in flags
        assert service["user"] == "65534:65534" and service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"] and service["mem_limit"] == "4g" and service["pids_limit"] > 0
        assert all(mount.startswith("/tmp:") and "size=" in mount for mount in service["tmpfs"])
    devices = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}] and "deploy" not in cpu


def test_the_image_is_of_the_version_that_wrote_the_model(work):
    import tensorflow

    folder = write_bundle(config(memory_limit="900m"), work)
    assert compose(folder)["image"] == f"tensorflow/serving:{tensorflow.__version__}" and compose(folder)["mem_limit"] == "900m"
    with pytest.raises(ConfigError):
        config(memory_limit="much")


def test_batching_is_switched_on_by_the_setting(work):
    command = compose(write_bundle(config(batching=True), work))["command"]
    assert {"--enable_batching=true", "--batching_parameters_file=/config/batching.config"} <= set(command)


def test_the_health_check_tells_a_loaded_model(work, started):
    check = compose(write_bundle(config(), work))["healthcheck"]
    kind, *command = check["test"]
    assert kind == "CMD" and "$" not in " ".join(command)  # compose would replace it
    port = started[2].rpartition(":")[2]
    run = [part.replace("8501", port) for part in command]
    assert subprocess.run(run, timeout=30, capture_output=True).returncode == 0
    assert subprocess.run([part.replace("segmenter", "other") for part in run], timeout=30, capture_output=True).returncode != 0
    assert subprocess.run([part.replace("8501", "1") for part in command], timeout=30, capture_output=True).returncode != 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's example needs curl")
def test_the_readme_names_the_next_version_and_its_curl_line_works(work, started, server, tmp_path, photo):
    readme = (write_bundle(config(), work) / "README.md").read_text()
    assert "export.version=3" in readme and "$" not in readme.replace("$(base64", "")
    lines = [line.strip() for line in readme.splitlines() if line.startswith("    curl") or line.startswith("      -d")]
    (tmp_path / "photo.jpg").write_bytes(png(photo(10, 12)))
    command = "\n".join(lines).replace("http://127.0.0.1:8501", started[2])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert '"outputs": [{"b64": "' in done.stdout, done.stdout + done.stderr
    assert server.calls == [("rest", "serve_bytes", 1)]


@pytest.mark.parametrize("serving", [{"model_name": "a/b"}, {"model_name": ""}, {"rest_port": 0}, {"rest_port": 8500}, {"image_tag": "latest; rm"}, {"batch_timeout_ms": 0}])
def test_wrong_settings_are_refused(serving):
    with pytest.raises(ConfigError, match="serving"):
        config(**serving)
