"""The networks: backbones by name, classifier, AffinityNet and segmenter as functional Keras models.

All take normalised float32 images [B, H, W, 3] of any height and width (see `normalization`).

There are more files here than in other folders: each backbone and each kind of layer has its own.
"""

import importlib
from typing import Literal, get_args

from tfwsss.config.schema import Backbone
from tfwsss.models.affinitynet import build_affinitynet
from tfwsss.models.backbones import BACKBONES, find
from tfwsss.models.classifier import build_classifier, class_maps, evidence, layers_left_out
from tfwsss.models.conversion import conversion
from tfwsss.models.layer_cam import layer_cams
from tfwsss.models.segmenter import build_segmenter
from tfwsss.models.spec import build, head_layers, model_spec
from tfwsss.normalization import Normalization

__all__ = [
    "BACKBONES",
    "build",
    "build_affinitynet",
    "build_classifier",
    "build_segmenter",
    "cam_activation",
    "class_maps",
    "conversion",
    "evidence",
    "head_layers",
    "layer_cams",
    "layers_left_out",
    "model_spec",
    "normalization",
]

# Where a module of the backbone's own name is not what registers it.
_MODULES = {
    **dict.fromkeys(("resnet50", "mobilenet", "mobilenetv2"), "keras_applications"),
    **dict.fromkeys(("efficientnetlite0", "efficientnetlite2"), "efficientnet_lite"),
    "resnet50irn": "resnet50v15",
}
for _name in get_args(Backbone):
    importlib.import_module(f"tfwsss.models.{_MODULES.get(_name, _name)}")


def normalization(backbone: str) -> Normalization:
    """How the inputs of a backbone are normalised. Raises ConfigError for an unknown name."""
    return find(backbone).normalization


def cam_activation(backbone: str) -> Literal["relu", "sqrt"]:
    """Activation of a backbone's class maps, "relu" or "sqrt". Raises ConfigError for an unknown name."""
    return find(backbone).cam_activation
