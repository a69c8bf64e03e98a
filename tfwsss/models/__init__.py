"""The networks: backbones by name, classifier, AffinityNet and segmenter as functional Keras models.

All take normalised float32 images [B, H, W, 3] of any height and width (see `normalization`).
"""

from tfwsss.models import (  # noqa: F401 - they register themselves
    efficientnet_lite,
    keras_applications,
    resnet38,
    resnet50v15,
    vgg16,
)
from tfwsss.models.affinitynet import build_affinitynet
from tfwsss.models.backbones import BACKBONES, find
from tfwsss.models.classifier import build_classifier, class_maps
from tfwsss.models.conversion import conversion
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
    "head_layers",
    "model_spec",
    "normalization",
]


def normalization(backbone: str) -> Normalization:
    """How the inputs of a backbone are normalised. Raises ConfigError for an unknown name."""
    return find(backbone).normalization


def cam_activation(backbone: str) -> str:
    """Activation of a backbone's class maps, "relu" or "sqrt". Raises ConfigError for an unknown name."""
    return find(backbone).cam_activation
