"""KServe: an InferenceService that runs the bundle's Triton repository on Kubernetes, in export/bundle/kserve/."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tfwsss.config import Serving
from tfwsss.storage.atomic import write_text

from .triton import REPOSITORY, SHARED_MEMORY_MB, image_of

FILE = "inference_service.yaml"
LONGEST_NAME = 50  # of 63: KServe appends "-predictor" and more


def service_name(serving: Serving) -> str:
    """The model's name as Kubernetes takes it: lower case, digits and hyphens, a letter first."""
    name = re.sub("[^a-z0-9]+", "-", serving.model_name.lower()).strip("-")
    return (name if name[:1].isalpha() else f"model-{name}")[:LONGEST_NAME].rstrip("-")


def _quantity(limit: str) -> str:
    """Docker's 900m and 4g are powers of two, Kubernetes' 900Mi and 4Gi."""
    return f"{limit[:-1]}{limit[-1].upper()}i"


_HEAD = """# Written by tfwsss export --bundle. It needs, in this order:
#   docker build -t {image} ../triton     and a push to where the cluster pulls from (serving.triton.image)
#   a copy of ../triton/{repository} at {uri} (serving.kserve.storage_uri)
#   kubectl apply -f {file}
# KServe's runtime kserve-tritonserver then answers the Open Inference Protocol (V2) at /v2/models/{model}/infer.
"""


def write_kserve(serving: Serving, target: Path) -> None:
    """Write the InferenceService into `target`, export/bundle/kserve."""
    uri = serving.kserve.storage_uri or f"pvc://{service_name(serving)}/{REPOSITORY}"
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": "kserve-tritonserver",
        "protocolVersion": "v2",
        "storageUri": uri,
        "image": image_of(serving),
        "resources": {"limits": {"memory": _quantity(serving.memory_limit)}, "requests": {"cpu": "1", "memory": _quantity(serving.memory_limit)}},
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],  # Kubernetes gives 64 MB
    }
    volumes = [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY_MB}Mi"}}]
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service_name(serving)},
        "spec": {"predictor": {"model": model, "volumes": volumes}},
    }
    head = _HEAD.format(image=image_of(serving), repository=REPOSITORY, uri=uri, file=FILE, model=serving.model_name)
    write_text(target / FILE, head + yaml.safe_dump(service, sort_keys=False, width=200))
