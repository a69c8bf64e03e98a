"""What the kernels of an ONNX model's convolutions see on photos: its mean and covariance."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from tfwsss.export.graph import attribute

_PLACES = 512  # of the kernel in each photo
_LARGEST = 640  # pixels a side; of larger photos the middle, or all maps of a large network would fill the memory
_MOST_INPUTS = 4608  # whose covariance is looked at together: 512 channels of 3x3, 170 MB
_DAMPING = 0.01  # of the mean variance


class KernelInputs:
    """Moments of the values below one convolution's kernel: channels of a group * height * width of the kernel.

    Of very many the covariance would fill the memory: they are taken in parts of whole channels, and what values of
    different parts have in common is left out.

    Args:
        node: the convolution.
        shape: of its weights, [outputs, channels of a group, height, width].

    Attributes:
        source: name of the convolution's input.
        groups: of the convolution.
        parts: of a group's values.
        inputs: values of a part.
    """

    def __init__(self, node: onnx.NodeProto, shape: tuple[int, ...]):
        self.source = node.input[0]
        self.groups = attribute(node, "group", 1)
        self.parts = next(parts for parts in range(1, shape[1] + 1) if shape[1] % parts == 0 and (math.prod(shape[1:]) <= parts * _MOST_INPUTS or parts == shape[1]))
        self.inputs = math.prod(shape[1:]) // self.parts
        self._sides = shape[2:]
        self._strides = attribute(node, "strides", [1, 1])
        self._dilations = attribute(node, "dilations", [1, 1])
        self._pads = attribute(node, "pads", [0, 0, 0, 0])  # top, left, bottom, right
        self._same = attribute(node, "auto_pad", b"NOTSET").startswith(b"SAME")
        self._count = 0
        self._first: Any = 0.0  # arrays from the first map on
        self._second: Any = 0.0

    def _padded(self, values: np.ndarray) -> np.ndarray:
        before, after = self._pads[:2], self._pads[2:]
        if self._same:
            geometry = zip(values.shape[1:], self._strides, self._dilations, self._sides, strict=True)
            total = [max((math.ceil(size / stride) - 1) * stride + dilation * (side - 1) + 1 - size, 0) for size, stride, dilation, side in geometry]
            before = [pixels // 2 for pixels in total]
            after = [pixels - pixels // 2 for pixels in total]
        return np.pad(values, ((0, 0), (before[0], after[0]), (before[1], after[1]))) if any((*before, *after)) else values

    def patches(self, values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The kernel's inputs at some places of a map [channels, height, width]: [groups, places, parts * inputs]."""
        values = self._padded(values)
        geometry = zip(values.shape[1:], self._strides, self._dilations, self._sides, strict=True)
        height, width = ((size - dilation * (side - 1) - 1) // stride + 1 for size, stride, dilation, side in geometry)
        places = generator.choice(height * width, min(_PLACES, height * width), replace=False)
        rows, columns = (
            (place * stride)[:, np.newaxis] + np.arange(side) * dilation
            for place, stride, side, dilation in zip(np.divmod(places, width), self._strides, self._sides, self._dilations, strict=True)
        )
        seen = values[:, rows[:, :, np.newaxis], columns[:, np.newaxis, :]]  # [channels, places, height, width]
        seen = seen.reshape(self.groups, -1, len(places), math.prod(self._sides)).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(seen).reshape(self.groups, len(places), -1)

    def split(self, values: np.ndarray) -> np.ndarray:
        """[groups, n, parts * inputs] -> [groups * parts, n, inputs]."""
        return values.reshape(self.groups, -1, self.parts, self.inputs).transpose(0, 2, 1, 3).reshape(self.groups * self.parts, -1, self.inputs)

    def joined(self, values: np.ndarray) -> np.ndarray:
        """The reverse of `split`."""
        return values.reshape(self.groups, self.parts, -1, self.inputs).transpose(0, 2, 1, 3).reshape(self.groups, -1, self.parts * self.inputs)

    def add(self, values: np.ndarray, generator: np.random.Generator) -> None:
        """Take some places of another map into account."""
        patches = self.split(self.patches(values, generator))
        self._count += patches.shape[1]
        self._first = self._first + patches.sum(1, dtype=np.float64)
        self._second = self._second + patches.transpose(0, 2, 1) @ patches

    @property
    def mean(self) -> np.ndarray:
        """[groups * parts, inputs] float64."""
        return self._first / self._count

    @property
    def covariance(self) -> np.ndarray:
        """[groups * parts, inputs, inputs] float64, damped so that it is positive definite.

        The fewer places were seen for the number of inputs, the stronger: what 30 say of 1,000 is mostly chance.
        """
        matrix = np.array(self._second, np.float64)
        matrix /= self._count
        power = np.trace(matrix, axis1=1, axis2=2) / self.inputs
        matrix -= self.mean[:, :, np.newaxis] * self.mean[:, np.newaxis, :]
        variance = np.trace(matrix, axis1=1, axis2=2) / self.inputs
        # The second is above the rounding errors of sums in float32, the third for inputs that are always 0.
        damping = np.maximum.reduce([_DAMPING * max(1.0, self.inputs / self._count) * variance, 1e-5 * power, np.full(len(power), 1e-20)])
        diagonal = np.arange(self.inputs)
        matrix[:, diagonal, diagonal] += damping[:, np.newaxis]
        return matrix


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(size - _LARGEST, 0) // 2 for size in image.shape[:2])
    return image[top : top + _LARGEST, left : left + _LARGEST]


def examine(model: onnx.ModelProto, kernels: list[KernelInputs], images) -> None:
    """Run the model (input `images`) on uint8 [H, W, 3] photos and show each kernel what it sees there."""
    shown = copy.deepcopy(model)
    names = list(dict.fromkeys(kernel.source for kernel in kernels))
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    for number, image in enumerate(images):
        values = dict(zip(names, session.run(names, {"images": _middle(image)[np.newaxis]}), strict=True))
        for kernel in kernels:
            kernel.add(values[kernel.source][0], np.random.default_rng(number))  # the same places however kernels are batched
