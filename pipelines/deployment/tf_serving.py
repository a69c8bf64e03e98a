"""What TensorFlow Serving needs beside the SavedModel, in export/bundle/ itself.

models.config, batching.config and monitoring.config are protobuf text files of TensorFlow Serving's messages ModelServerConfig,
BatchingParameters and MonitoringConfig; docker-compose.yml and docker-compose.gpu.yml start the official image with them.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml

from tfwsss.config import Serving
from tfwsss.errors import ExportError
from tfwsss.storage.atomic import read_json, write_text

from .text_proto import text_proto

REST_PORT, GRPC_PORT = 8501, 8500  # inside the container; the image's start script fixes them
METRICS = "/monitoring/prometheus/metrics"
POLL_SECONDS = 30


def saved_versions(folder) -> list[int]:
    """Versions of a SavedModel below `folder`, ascending."""
    return sorted(int(path.parent.name) for path in Path(folder).glob("*/saved_model.pb") if path.parent.name.isdecimal())


def version_labels(serving: Serving, versions: list[int]) -> dict[str, int]:
    """Which version is `stable` and which `canary`.

    Raises:
        ExportError: no version is there, or not the one that the configuration names.
    """
    if not versions:
        raise ExportError("export/saved_model: no version to serve, run the export first")
    for name, version in (("stable", serving.stable), ("canary", serving.canary)):
        if version is not None and version not in versions:
            raise ExportError(f"serving.{name}: version {version} is not below export/saved_model, found {', '.join(map(str, versions))}")
    canary = serving.canary or versions[-1]
    return {"stable": serving.stable or max((version for version in versions if version < canary), default=canary), "canary": canary}


def _models(serving: Serving, labels: dict[str, int]) -> str:
    model = {
        "name": serving.model_name,
        "base_path": f"/models/{serving.model_name}",
        "model_platform": "tensorflow",
        "model_version_policy": {"specific": {"versions": sorted(set(labels.values()))}},
        "version_labels": [{"key": label, "value": version} for label, version in labels.items()],
    }
    return text_proto({"model_config_list": {"config": model}})


def _batching(serving: Serving) -> str:
    values = {"max_batch_size": serving.max_batch_size, "batch_timeout_micros": round(serving.batch_timeout_ms * 1000), "max_enqueued_batches": 100}
    return text_proto({name: {"value": value} for name, value in values.items()})


def _health_check(serving: Serving) -> list[str]:
    # The image has neither curl nor wget; its bash can open a socket.
    request = f"GET /v1/models/{serving.model_name} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"
    return ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && printf '{request}' >&3 && grep -q AVAILABLE <&3"]


def _compose(serving: Serving, gpu: bool, tag: str) -> str:
    command = [
        "--model_config_file=/config/models.config",
        f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
        "--allow_version_labels_for_unavailable_models=true",  # labels and versions arrive together at the start
        "--monitoring_config_file=/config/monitoring.config",
    ]
    if serving.batching:
        command += ["--enable_batching=true", "--batching_parameters_file=/config/batching.config"]
    service = {
        "image": f"tensorflow/serving:{tag}{'-gpu' if gpu else ''}",
        "command": command,
        "ports": [f"127.0.0.1:{serving.rest_port}:{REST_PORT}", f"127.0.0.1:{serving.grpc_port}:{GRPC_PORT}"],
        "volumes": [
            {"type": "bind", "source": "../saved_model", "target": f"/models/{serving.model_name}", "read_only": True},
            {"type": "bind", "source": ".", "target": "/config", "read_only": True},
        ],
        "user": "65534:65534",  # nobody
        "read_only": True,
        "tmpfs": ["/tmp:rw,noexec,nosuid,size=64m"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": serving.memory_limit,
        "pids_limit": 512,
        "restart": "unless-stopped",
        "healthcheck": {"test": _health_check(serving), "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "120s"},
    }
    if gpu:
        service["environment"] = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "CUDA_CACHE_PATH": "/tmp/cuda"}
        service["deploy"] = {"resources": {"reservations": {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}}}
    text = yaml.safe_dump({"services": {serving.model_name.lower().replace(".", "-"): service}}, sort_keys=False, width=200)
    return f"# Written by tfwsss export --bundle. Start: docker compose -f {compose_name(gpu)} up -d\n{text}"


def compose_name(gpu: bool) -> str:
    return "docker-compose.gpu.yml" if gpu else "docker-compose.yml"


_README = Template(
    """# $name in TensorFlow Serving

For others: `triton/` (NVIDIA Triton), `kserve/` (KServe on Kubernetes) and `hugging_face/` (a model card with the files).

    docker compose up -d                               # CPU
    docker compose -f docker-compose.gpu.yml up -d     # GPU, needs the NVIDIA Container Toolkit
    docker compose ps                                  # "healthy" once the model has loaded and warmed up

REST answers on 127.0.0.1:$rest, gRPC on 127.0.0.1:$grpc, Prometheus metrics at http://127.0.0.1:$rest$metrics.
The ports are bound to the loopback interface: TensorFlow Serving knows no users, put a proxy that does in front of it.
The image's tag is `$tag` (`serving.image_tag`); the model was written by TensorFlow $tensorflow, and an older server may not read it.
The container runs as nobody, with everything read-only but /tmp, without capabilities, and with $memory of memory at most
(`serving.memory_limit`); above that it is restarted. The files of the model and of this folder must be readable by all users.

    curl -s http://127.0.0.1:$rest/v1/models/$name/labels/stable:predict \\
      -d "{\\"signature_name\\": \\"serve_bytes\\", \\"inputs\\": {\\"image_bytes\\": [{\\"b64\\": \\"$$(base64 -w0 photo.jpg)\\"}]}}"

The answer's `outputs` is a list with `{"b64": ...}`: a PNG of the upright photo's size whose grey levels are the labels
(`../saved_model/$stable/assets/metadata.json` names them). `serving/tf_serving` of tfwsss is a Python client.

## Versions

`models.config` loads version $stable as `stable` and version $canary as `canary`. A new model goes to the canary first:

    tfwsss export CONFIG --bundle --set export.version=$next                             # $next is the canary
    tfwsss export CONFIG --bundle --set export.version=$next --set serving.stable=$next  # and then stable too

The running server reads `models.config` every $poll seconds; a label moves at the first reading after its new version has
loaded. Files replaced under a version that is loaded go unnoticed: give a new export a new number.

## Batching

$batching Requests run together must hold images of the same size, or all of them fail; a damaged file in one
`serve_bytes` request fails those it shares a batch with. Switch it on (`serving.batching`) for clients that all send one size
to `serving_default`, on a GPU; `batching.config` holds the numbers.
"""
)


def _readme(serving: Serving, labels: dict[str, int], versions: list[int], tensorflow: str, tag: str) -> str:
    return _README.substitute(
        name=serving.model_name,
        rest=serving.rest_port,
        grpc=serving.grpc_port,
        metrics=METRICS,
        tag=tag,
        memory=serving.memory_limit,
        tensorflow=tensorflow,
        stable=labels["stable"],
        canary=labels["canary"],
        next=versions[-1] + 1,
        poll=POLL_SECONDS,
        batching=f"Batching is {'on' if serving.batching else 'off'}.",
    )


def _exporting_tensorflow(version_folder: Path) -> str:
    metadata = read_json(version_folder / "assets/metadata.json")
    if not metadata:
        raise ExportError(f"{version_folder}: assets/metadata.json is missing, not a version that tfwsss exported")
    return metadata["versions"]["tensorflow"]


def write_tf_serving(serving: Serving, saved_model: Path, target: Path) -> None:
    """Write the files for the SavedModel versions below a folder into `target`, which lies beside it.

    Raises:
        ExportError: no version is there, or not the one that `serving.stable` or `serving.canary` names.
    """
    versions = saved_versions(saved_model)
    labels = version_labels(serving, versions)
    tensorflow = _exporting_tensorflow(saved_model / str(labels["canary"]))
    tag = serving.image_tag or tensorflow
    files = {
        "models.config": _models(serving, labels),
        "batching.config": _batching(serving),
        "monitoring.config": text_proto({"prometheus_config": {"enable": True, "path": METRICS}}),
        compose_name(gpu=False): _compose(serving, gpu=False, tag=tag),
        compose_name(gpu=True): _compose(serving, gpu=True, tag=tag),
        "README.md": _readme(serving, labels, versions, tensorflow, tag),
    }
    # File by file: a container that has the folder mounted keeps seeing it.
    for name, text in files.items():
        write_text(target / name, text)
