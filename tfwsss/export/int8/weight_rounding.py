"""Rounding of 8-bit convolution weights, such that the error of one weight is made up for by those after it.

Rounded to nearest, each weight errs for itself. What counts is how far a layer's outputs move on photos, and what a
kernel sees is correlated: neighbouring pixels are nearly equal, channels go together. There the errors of two weights
can cancel. The weights of an output channel are therefore rounded one after another, each together with a share of the
errors so far: the linear feedback that is best for the covariance of the layer's inputs (LDLQ of QuIP, Chee et al. 2023;
GPTQ, Frantar et al. 2023, is the same rule).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tfwsss.export import graph as graphs
from tfwsss.export.int8.kernel_inputs import KernelInputs, examine

LIMIT = 64  # magnitude of a weight of 7 bits, as ONNX Runtime counts them

_BLOCK = 128  # inputs rounded one by one; the feedback of all blocks before is one matrix product
_BATCH_BYTES = 1 << 30  # for the moments of the kernels that are examined in one go


def round_with_feedback(weights: np.ndarray, scales: np.ndarray, covariance: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Integers q for which E[((w - q * scale) x)^2] is small, for x of mean zero and the given covariance.

    Args:
        weights: [groups, outputs, inputs].
        scales: [groups, outputs], positive.
        covariance: [groups, inputs, inputs], positive definite.
        limit: largest magnitude of an integer.

    Returns:
        [groups, outputs, inputs] int8.
    """
    upper = np.linalg.cholesky(covariance[:, ::-1, ::-1])[:, ::-1, ::-1]  # covariance = upper @ upper.T
    feedback = upper / np.diagonal(upper, axis1=1, axis2=2)[:, np.newaxis, :]
    rounded, errors = np.empty(weights.shape, np.int8), np.zeros(weights.shape)
    for start in range(0, weights.shape[2], _BLOCK):
        stop = min(start + _BLOCK, weights.shape[2])
        wanted = weights[:, :, start:stop] + errors[:, :, :start] @ feedback[:, :start, start:stop]
        for index in range(start, stop):
            inside = errors[:, :, start:index] @ feedback[:, start:index, index, np.newaxis]
            value = np.clip(np.rint((wanted[:, :, index - start] + inside[:, :, 0]) / scales), -limit, limit)
            rounded[:, :, index] = value
            errors[:, :, index] = weights[:, :, index] - value * scales
    return rounded


class _Bias:
    """What a convolution adds: integers with scales, or float32 behind a matrix product."""

    def __init__(self, tensor: onnx.TensorProto, scales: np.ndarray | None):
        self._tensor, self._scales = tensor, scales

    def add(self, values: np.ndarray) -> None:
        old = numpy_helper.to_array(self._tensor)
        new = old + (values.reshape(old.shape) if self._scales is None else np.rint(values / self._scales)).astype(old.dtype)
        self._tensor.CopyFrom(numpy_helper.from_array(new, self._tensor.name))


class _Kernel:
    """The weights of one convolution, or of several where the network runs at several scales.

    `is_matrix`: of a convolution in the form of a matrix product, [channels, outputs].
    """

    def __init__(self, original: np.ndarray, integers: onnx.TensorProto, scales: np.ndarray, is_matrix: bool):
        self.original, self.integers, self.scales, self._is_matrix = original, integers, scales, is_matrix
        self.users: list[tuple[KernelInputs, _Bias | None]] = []

    @property
    def moment_bytes(self) -> int:
        return sum(4 * inputs.groups * inputs.parts * inputs.inputs**2 for inputs, _ in self.users)

    def round(self) -> None:
        shape, inputs = self.original.shape, self.users[0][0]
        weights = inputs.split(self.original.reshape(inputs.groups, -1, inputs.parts * inputs.inputs)).astype(np.float64)
        scales = np.broadcast_to(self.scales, shape[:1]).reshape(inputs.groups, -1).repeat(inputs.parts, axis=0)
        rounded = round_with_feedback(weights, scales, functools.reduce(np.add, (user.covariance for user, _ in self.users)))
        integers = inputs.joined(rounded).reshape(shape)
        integers = np.ascontiguousarray(integers[:, :, 0, 0].T) if self._is_matrix else integers
        self.integers.CopyFrom(numpy_helper.from_array(integers, self.integers.name))
        errors = weights - rounded * scales[:, :, np.newaxis]
        for user, bias in self.users:
            if bias is not None:  # it makes up for an error that is the same everywhere
                bias.add((errors @ user.mean[:, :, np.newaxis]).reshape(inputs.groups, inputs.parts, -1).sum(1).ravel())
        self.users.clear()  # their moments may take hundreds of megabytes


def _kernels(quantized: onnx.ModelProto, model: onnx.ModelProto) -> list[_Kernel]:
    """Those of `quantized` that have 8 bits; nodes have the same names in both."""
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    floats = {tensor.name: tensor for tensor in model.graph.initializer}
    originals, sources, readers = {node.name: node for node in model.graph.node}, graphs.producers(model.graph), graphs.readers(model.graph)
    dequantized = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants}

    def constant(name: str) -> tuple[onnx.TensorProto, np.ndarray]:
        integers, scales = dequantized[name].input[:2]
        return constants[integers], numpy_helper.to_array(constants[scales]).astype(np.float64)

    def added(product: onnx.NodeProto) -> _Bias | None:  # see `products_in_float32`
        (first,) = readers[product.output[0]]
        biases = [node.input[1] for node in readers[first.output[0]] if node.op_type == "Add" and node.input[1] in constants]
        return _Bias(constants[biases[0]], None) if biases else None

    kernels: dict[str, _Kernel] = {}
    for node in quantized.graph.node:
        if node.op_type not in ("Conv", "MatMul") or node.input[1] not in dequantized:
            continue
        original, is_matrix = originals[node.name], node.op_type == "MatMul"
        values = numpy_helper.to_array(floats[original.input[1]])
        if is_matrix:
            values = values.T[:, :, np.newaxis, np.newaxis]
            channels_first = sources[original.input[0]].input[0]
            original = helper.make_node("Conv", [channels_first, *original.input[1:]], original.output)
        kernel = kernels.setdefault(original.input[1], _Kernel(values, *constant(node.input[1]), is_matrix))
        kernel.users.append((KernelInputs(original, values.shape), added(node) if is_matrix else _Bias(*constant(node.input[2]))))
    return list(kernels.values())


def _batches(kernels: list[_Kernel]) -> Iterator[list[_Kernel]]:
    batch: list[_Kernel] = []
    size = 0
    for kernel in kernels:
        if batch and size + kernel.moment_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(kernel)
        size += kernel.moment_bytes
    if batch:
        yield batch


def round_weights(quantized: onnx.ModelProto, model: onnx.ModelProto, images) -> None:
    """Round the weights of the convolutions and their matrix products in `quantized` anew, in place, and correct the
    biases; the scales stay.

    Args:
        quantized: what `quantize_static` has made of `model` in QDQ form, with symmetric weights of 7 bits and a bias for
            each convolution (`own_biases`).
        model: the float model, input `images`.
        images: uint8 [H, W, 3] photos.
    """
    for batch in _batches(_kernels(quantized, model)):
        examine(model, [inputs for kernel in batch for inputs, _ in kernel.users], images)
        for kernel in batch:
            kernel.round()
