"""Settings of the three trainings for so many photos of such a size, on a processor or a GPU: the presets' proportions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

# Steps that each training should have at least, and the range of epochs.
CLASSIFIER, AFFINITYNET, SEGMENTER = (300, 8, 40), (220, 4, 30), (1200, 12, 60)
GRID = 32  # crops are multiples of the deepest feature map's stride
SMALLEST_CROP = 96


@dataclass(frozen=True)
class Machine:
    """What is computed on, and what the networks start from.

    Attributes:
        gpu: whether there is one.
        backbone: of all three networks.
        weights: "imagenet", or the path of a file.
    """

    gpu: bool
    backbone: str
    weights: str


def training_settings(machine: Machine, photos: int, long_side: int) -> dict[str, dict[str, Any]]:
    """Sections `classifier`, `cams`, `affinitynet` and `segmenter`.

    Args:
        machine: see `Machine`.
        photos: usable training photos.
        long_side: of the median photo, pixels.
    """
    classifier, large = _crop(448 if machine.gpu else 256, long_side), _crop(448 if machine.gpu else 320, long_side)
    few = max(2, photos // 4)  # an epoch of at least four steps
    batches = {"classifier": min(16, few), "affinitynet": min(8, few), "segmenter": min(16 if machine.gpu else 8, few)}
    optimizer = {"name": "adam", "learning_rate": 1e-4}

    def model(stride: int, freeze: bool = False) -> dict[str, Any]:
        return {"backbone": machine.backbone, "output_stride": stride, "freeze": freeze, "weights": machine.weights}

    def epochs(name: str, rule: tuple[int, int, int]) -> int:
        steps, least, most = rule
        return min(max(math.ceil(steps * batches[name] / max(photos, 1)), least), most)

    return {
        "classifier": {
            "model": model(16),
            "optimizer": optimizer,
            "epochs": epochs("classifier", CLASSIFIER),
            "batch_size": batches["classifier"],
            "resize_long": [classifier, max(classifier, classifier * 11 // 8)],
            "crop": classifier,
        },
        "cams": {"method": "layer_cam"},
        "affinitynet": {
            "model": model(8),
            "optimizer": optimizer,
            "epochs": epochs("affinitynet", AFFINITYNET),
            "batch_size": batches["affinitynet"],
            "crop": large,
        },
        "segmenter": {
            "model": model(16, freeze=not machine.gpu),
            "optimizer": optimizer | {"weight_decay": 1e-5},
            "head": "auto" if machine.gpu else "lraspp",
            "loss": "balanced",
            "epochs": epochs("segmenter", SEGMENTER),
            "batch_size": batches["segmenter"],
            "crop": large if machine.gpu else classifier,
            "ema": 0.99,
        },
    }


def _crop(wanted: int, long_side: int) -> int:
    return max(min(wanted, long_side // GRID * GRID), SMALLEST_CROP)
