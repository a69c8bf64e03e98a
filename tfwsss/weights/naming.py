"""From the names and layouts of other frameworks to `layer/variable` and the Keras layout.

Convolution kernels are (out, in, height, width) in PyTorch, MXNet and Caffe, (height, width, in, out) in Keras;
matrices of dense layers are transposed. The PSA reference code's module path is the layer's name with "_" for ".".
"""

import re
from collections.abc import Mapping

import numpy as np

from tfwsss.errors import WeightsError

_MXNET_UNIT = re.compile(r"^(res|bn)(\d)(a|b\d+)_(branch\w+?)$")
_MXNET_VARIABLES = {
    "weight": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}
_TORCHVISION_RESNET = re.compile(r"(^|\.)layer[1-4]\.\d+\.(conv|bn|downsample)")


def keras_kernel(array: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out); (out, in) -> (in, out); a view."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if array.ndim == 2 else array


def _mxnet_layer(name: str) -> str:
    unit = _MXNET_UNIT.match(name)
    if unit is None:
        return name
    # Units are called a, b1, b2, ... in MXNet, and the reference code counts from the second: b2, b2_1, b2_2, ...
    kind, stage, number, branch = unit.groups()
    suffix = "" if number == "a" else f"_{number[1:]}"
    return f"b{stage}{suffix}_{'conv' if kind == 'res' else 'bn'}_{branch}"


def from_mxnet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate `arg:res4b3_branch2a_weight` (to `b4_3_conv_branch2a/kernel`) and its like."""
    named = {}
    for full_name, array in arrays.items():
        name = full_name.split(":", 1)[-1]
        for ending, variable in _MXNET_VARIABLES.items():
            if name.endswith(f"_{ending}"):
                layer = _mxnet_layer(name.removesuffix(f"_{ending}"))
                named[f"{layer}/{variable}"] = keras_kernel(array) if variable == "kernel" else array
                break
        else:
            named[name] = array
    return named


def from_caffe(layers: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Translate layers of convolutions and dense layers: the first blob is the kernel, the second the bias."""
    named = {}
    for layer, blobs in layers.items():
        for index, blob in enumerate(blobs):
            if index == 0:
                named[f"{layer}/kernel"] = keras_kernel(blob)
            else:  # legacy blobs have four sides, biases too
                named[f"{layer}/{'bias' if index == 1 else index}"] = blob.reshape(-1)
    return named


def from_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate a state dict of the PSA reference code.

    Raises:
        WeightsError: it is a ResNet of torchvision or IRN.
    """
    if any(_TORCHVISION_RESNET.search(name) for name in arrays):
        raise WeightsError(
            "a ResNet of torchvision (or IRN): its strides are in the 3x3 convolutions, those of the resnet50 here "
            "(keras.applications) in the 1x1 convolutions before them, so the arrays would fit and the network would "
            "be another one. Use ImageNet weights of keras.applications: weights 'imagenet' or "
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
        )
    if arrays and all(name.startswith("module.") for name in arrays):  # saved inside DataParallel
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    named = {}
    for name, array in arrays.items():
        module, _, parameter = name.rpartition(".")
        if parameter == "num_batches_tracked":
            continue
        weight = arrays.get(f"{module}.weight")
        normalisation = weight is not None and weight.ndim == 1
        variable = {
            "weight": "gamma" if normalisation else "kernel",
            "bias": "beta" if normalisation else "bias",
            "running_mean": "moving_mean",
            "running_var": "moving_variance",
        }.get(parameter, parameter)
        layer = module.replace(".", "_")
        named[f"{layer}/{variable}" if layer else variable] = keras_kernel(array) if variable == "kernel" else array
    return named
