"""A model repository for NVIDIA's Triton Inference Server, in export/bundle/triton/.

    model_repository/NAME           the ONNX file for Triton's own backend onnxruntime: tensors in, tensors out
    model_repository/NAME-images    photo files in, PNG masks out: Triton's Python backend around tfwsss_onnx

Dockerfile adds to NVIDIA's image what the second model needs; docker-compose.yml builds and starts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import Template

import yaml

import tfwsss_onnx
import tfwsss_triton
from tfwsss.config import Config, Serving
from tfwsss.storage.atomic import write_text

from .exported import Exported, Tensor, place
from .text_proto import Symbol, text_proto

REPOSITORY = "model_repository"
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002  # inside the container: Triton's own
MOST_WAITING = 64  # requests; more are refused at once
LONGEST_WAIT_S = 30.0  # in the queue
SHARED_MEMORY_MB = 512  # files and masks pass through it between server and Python
POLL_SECONDS = 30
REQUIREMENTS = ("numpy>=1.26,<2", "onnxruntime>=1.19", "pillow>=11.3")  # of serving/onnx; NVIDIA keeps Triton's Python to NumPy 1, as some backends misread files with NumPy 2
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def images_name(serving: Serving) -> str:
    """The model that takes files; the same name as in MLflow's registry."""
    return f"{serving.model_name}-images"


def image_of(serving: Serving) -> str:
    """Name of the image that the Dockerfile builds."""
    return serving.triton.image or f"{serving.model_name.lower()}-triton"


def _tensor(tensor: Tensor) -> dict:
    return {"name": tensor.name, "data_type": Symbol(_TYPES[tensor.dtype]), "dims": list(tensor.shape[1:])}  # the first axis is the batch


def _common(serving: Serving, versions: Iterable[int], labels: list[str]) -> dict:
    queue = {"timeout_action": Symbol("REJECT"), "default_timeout_microseconds": round(LONGEST_WAIT_S * 1e6), "max_queue_size": MOST_WAITING}
    return {
        "version_policy": {"specific": {"versions": sorted(versions)}},
        "dynamic_batching": {"max_queue_delay_microseconds": round(serving.batch_timeout_ms * 1000), "default_queue_policy": queue},
        "parameters": [_parameter("labels", json.dumps(labels, ensure_ascii=False))],
    }


def _parameter(key: str, value: str) -> dict:
    return {"key": key, "value": {"string_value": value}}


def _onnx_model(serving: Serving, exported: Exported, versions: Iterable[int]) -> dict:
    return {
        "name": serving.model_name,
        "backend": "onnxruntime",
        "max_batch_size": serving.max_batch_size,
        "input": [_tensor(tensor) for tensor in exported.inputs],
        "output": [_tensor(tensor) for tensor in exported.outputs],
        **_common(serving, versions, exported.metadata["labels"]),
    }


def _images_model(serving: Serving, exported: Exported, versions: Iterable[int], max_megapixels: float) -> dict:
    fields = _common(serving, versions, exported.metadata["labels"])
    return {
        "name": images_name(serving),
        "backend": "python",
        "max_batch_size": serving.max_batch_size,
        "input": [{"name": "image_bytes", "data_type": Symbol("TYPE_STRING"), "dims": [1]}],
        "output": [{"name": "mask_png", "data_type": Symbol("TYPE_STRING"), "dims": [1]}],
        "instance_group": [{"count": 1, "kind": Symbol("KIND_CPU")}],
        **fields,
        "parameters": [*fields["parameters"], _parameter("max_megapixels", f"{max_megapixels:g}")],
    }


def _versions(model: Path, wanted: Iterable[int], current: int) -> list[int]:
    """Of the versions that have a label those that earlier bundles have left, and the one that is written now."""
    return sorted({current, *(version for version in wanted if (model / str(version) / "model.onnx").is_file())})


def _write_code(folder: Path) -> None:
    """The model's Python: the runtime without its HTTP service, and what calls it."""
    for package in (tfwsss_onnx, tfwsss_triton):
        source = Path(package.__path__[0])
        for file in sorted(source.rglob("*.py")):
            part = file.relative_to(source)
            if part.parts[0] not in ("http_service", "densecrf"):
                write_text(folder / package.__name__ / part, file.read_text(encoding="utf-8"))
    write_text(folder / "model.py", _MODEL)


_MODEL = '''"""Written by tfwsss export --bundle: Triton's Python backend loads this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # before what else may be installed under these names

from tfwsss_triton.triton_model import TritonPythonModel  # noqa: E402, F401
'''

_DOCKERFILE = Template(
    """# Written by tfwsss export --bundle: Triton with what the model $images imports.
FROM nvcr.io/nvidia/tritonserver:$tag
RUN pip install --no-cache-dir $requirements
"""
)

_README = Template(
    """# $name in NVIDIA Triton

    docker compose up -d --build

HTTP answers on 127.0.0.1:$http, gRPC on 127.0.0.1:$grpc, Prometheus metrics at http://127.0.0.1:$metrics/metrics. The ports are bound to
the loopback interface: Triton knows no users, put a proxy that does in front of it.

| model | input | output |
|---|---|---|
| `$name` | $inputs | $outputs |
| `$images` | `image_bytes` BYTES [B, 1]: JPEG, PNG, WEBP, BMP, TIFF or GIF files of any sizes | `mask_png` BYTES [B, 1]: indexed PNGs of the upright photos' sizes |

`$name` runs in Triton's backend onnxruntime, on a GPU where there is one. `$images` runs in its Python backend, on the CPU; for a GPU install
`onnxruntime-gpu` in the Dockerfile and write `KIND_GPU` into its `config.pbtxt`. The labels are in `parameters` of both.

    pip install "tritonclient[http]"

    import numpy as np
    import tritonclient.http as triton

    client = triton.InferenceServerClient("127.0.0.1:$http")
    photos = triton.InferInput("image_bytes", [1, 1], "BYTES")
    photos.set_data_from_numpy(np.array([[open("photo.jpg", "rb").read()]], object))
    open("mask.png", "wb").write(client.infer("$images", [photos]).as_numpy("mask_png")[0, 0])

Requests wait up to $delay ms for others, at most $batch run together, $waiting wait and more are refused; one that has waited $wait s is refused. In
`$images` a photo that is damaged or larger than $megapixels megapixels (told from its header) fails its own request, in one line.

The files of this folder must be readable by all users: the server is none of yours. A client that names no version gets the highest one that is loaded ($versions). `config.pbtxt` and new versions are read every $poll seconds.
"""
)


def _health_check() -> list[str]:
    request = "GET /v2/health/ready HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"
    return ["CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{HTTP_PORT} && printf '{request}' >&3 && grep -q '200 OK' <&3"]


def _compose(serving: Serving) -> str:
    triton = serving.triton
    ports = ((triton.http_port, HTTP_PORT), (triton.grpc_port, GRPC_PORT), (triton.metrics_port, METRICS_PORT))
    service = {
        "build": ".",
        "image": image_of(serving),
        "command": ["tritonserver", "--model-repository=/models", "--model-control-mode=poll", f"--repository-poll-secs={POLL_SECONDS}"],
        "ports": [f"127.0.0.1:{outside}:{inside}" for outside, inside in ports],
        "volumes": [{"type": "bind", "source": f"./{REPOSITORY}", "target": "/models", "read_only": True}],
        "shm_size": f"{SHARED_MEMORY_MB}m",
        "user": "1000:1000",  # the image's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": serving.memory_limit,
        "restart": "unless-stopped",
        "healthcheck": {"test": _health_check(), "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "120s"},
    }
    text = yaml.safe_dump({"services": {image_of(serving).rpartition("/")[2].partition(":")[0].replace(".", "-"): service}}, sort_keys=False, width=200)
    return f"# Written by tfwsss export --bundle. Start: docker compose up -d --build\n{text}"


def _shown(tensors: Iterable[Tensor]) -> str:
    return ", ".join(f"`{tensor.name}` {_TYPES[tensor.dtype].removeprefix('TYPE_')} [{', '.join('B' if not axis else str(size) if size > 0 else 'HW'[axis - 1] for axis, size in enumerate(tensor.shape))}]" for tensor in tensors)


def write_triton(config: Config, exported: Exported, labelled: Iterable[int], target: Path) -> None:
    """Write repository, Dockerfile, compose file and README into `target`.

    Args:
        config: its `serving`, `export.version` and `data.max_megapixels`.
        exported: the fp32 file.
        labelled: versions that servers shall load, as far as earlier bundles have left them here.
        target: export/bundle/triton.
    """
    serving, version, megapixels = config.serving, config.export.version, config.data.max_megapixels
    repository = target / REPOSITORY
    models = {name: repository / name for name in (serving.model_name, images_name(serving))}
    for folder in models.values():
        place(exported.path, folder / str(version) / "model.onnx")
    _write_code(models[images_name(serving)] / str(version))
    versions = _versions(models[serving.model_name], labelled, version)
    # Last: a server that polls loads no version before it is named here.
    for fields in (_onnx_model(serving, exported, versions), _images_model(serving, exported, versions, megapixels)):
        write_text(models[fields["name"]] / "config.pbtxt", f"# Written by tfwsss export --bundle.\n{text_proto(fields)}")
    write_text(target / "Dockerfile", _DOCKERFILE.substitute(images=images_name(serving), tag=serving.triton.tag, requirements=" ".join(f'"{each}"' for each in REQUIREMENTS)))
    write_text(target / "docker-compose.yml", _compose(serving))
    readme = _README.substitute(
        name=serving.model_name,
        images=images_name(serving),
        inputs=_shown(exported.inputs),
        outputs=_shown(exported.outputs),
        http=serving.triton.http_port,
        grpc=serving.triton.grpc_port,
        metrics=serving.triton.metrics_port,
        delay=f"{serving.batch_timeout_ms:g}",
        batch=serving.max_batch_size,
        waiting=MOST_WAITING,
        wait=f"{LONGEST_WAIT_S:g}",
        megapixels=f"{megapixels:g}",
        versions=", ".join(map(str, versions)),
        poll=POLL_SECONDS,
    )
    write_text(target / "README.md", readme)
