"""From the names and layouts of other frameworks to `layer/variable` and the Keras layout.

Convolution kernels are (out, in, height, width) in PyTorch, MXNet and Caffe, (height, width, in, out) in Keras;
matrices of dense layers are transposed. A PyTorch module's path (in the PSA reference code, in torchvision's ResNet50)
is the layer's name with "_" for ".".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.efficientnet_lite import from_efficientnet_lite, of_efficientnet_lite

_MXNET_UNIT = re.compile(r"^(res|bn)(\d)(a|b\d+)_(branch\w+?)$")
_MXNET_VARIABLES = {
    "weight": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}
_IRN_BACKBONE = "resnet50."
_IRN_CLASSIFIER = "classifier.weight"
_IRN_DUPLICATES = ("stage", "backbone.", "newly_added.")
_IRN_SECOND_NETWORK = ("fc_edge", "fc_dp")
_KERAS_VGG16 = {
    "conv2d": [f"block{block}_conv{number}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, count + 1)],
    "dense": ["fc1", "fc2", "predictions"],
}


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


def _of_irn(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of IRN's classifier under torchvision's names, the last convolution under PSA's.

    IRN registers its ResNet50 three times (`resnet50`, `stage1` to `stage4`, `backbone`) and the last convolution twice
    (`classifier`, `newly_added`): the same tensors under other names, of which one each is taken.
    """
    if any(name.startswith(_IRN_SECOND_NETWORK) for name in arrays):
        raise WeightsError(
            "the second network of IRN (class boundaries and displacements), which is not part of this project; its "
            "ResNet50 is torchvision's, unchanged. IRN's classifier is the file it calls res50_cam.pth"
        )
    return {
        "fc8.weight" if name == _IRN_CLASSIFIER else name.removeprefix(_IRN_BACKBONE): array
        for name, array in arrays.items()
        if not name.startswith(_IRN_DUPLICATES)
    }


def numbered_keras_vgg16(with_dense: bool) -> dict[str, str]:
    """{group: layer} of a file of keras.applications' VGG16 whose groups are only numbered, by kind in order."""
    kinds = ("conv2d", "dense") if with_dense else ("conv2d",)
    return {
        f"{kind}_{index}" if index else kind: layer for kind in kinds for index, layer in enumerate(_KERAS_VGG16[kind])
    }


def of_keras_vgg16(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are variables of keras.applications' VGG16, named or numbered."""
    return any(name.startswith("block5_conv3/") for name in arrays)


def from_keras_vgg16(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate VGG16 of keras.applications (Simonyan & Zisserman 2015) to DeepLab's VGG16 of 20 million parameters.

    Convolutions are renamed. The dense layers become the convolutions fc6 and fc7 by leaving out (Chen et al., ICLR
    2015): of fc6's 7x7 places every third in both directions, of the 4096 channels every fourth. Variables may be
    numbered (0 kernel, 1 bias). Without dense layers in `arrays` fc6 and fc7 are not in the result either.
    """
    named = {}
    for name, array in arrays.items():
        layer, _, variable = name.partition("/")
        variable = {"0": "kernel", "1": "bias"}.get(variable, variable)
        block = re.match(r"^block(\d)_conv(\d)$", layer)
        if block:
            layer = f"conv{block[1]}_{block[2]}"
        elif layer in ("fc1", "fc2"):
            if variable == "kernel" and layer == "fc1":
                array = array.reshape(7, 7, array.shape[0] // 49, array.shape[1])[::3, ::3]
            elif variable == "kernel":
                array = array[None, None, ::4]
            array = array[..., ::4]
            layer = {"fc1": "fc6", "fc2": "fc7"}[layer]
        named[f"{layer}/{variable}"] = array
    return named


def from_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate a state dict of the PSA reference code, of torchvision's ResNet50, of IRN's classifier or of EfficientNet-Lite.

    Raises:
        WeightsError: it is IRN's second network.
    """
    if arrays and all(name.startswith("module.") for name in arrays):  # saved inside DataParallel
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    if any(name.startswith(_IRN_BACKBONE) for name in arrays):
        arrays = _of_irn(arrays)
    if of_efficientnet_lite(arrays):
        arrays = from_efficientnet_lite(arrays)
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
