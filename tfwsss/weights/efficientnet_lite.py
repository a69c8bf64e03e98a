"""Published weights of EfficientNet-Lite: names of the PyTorch state dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_MARK = "_conv_stem.weight"
_KEY = re.compile(r"^(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)$")


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
