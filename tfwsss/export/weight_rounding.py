"""Rounding of 8-bit convolution weights, such that the error of one weight is made up for by those after it.

Rounded to nearest, each weight errs for itself. What counts is how far a layer's outputs move on photos, and what a
kernel sees is correlated: neighbouring pixels are nearly equal, channels go together. There the errors of two weights
can cancel. The weights of an output channel are therefore rounded one after another, each together with a share of the
errors so far: the linear feedback that is best for the covariance of the layer's inputs (LDLQ of QuIP, Chee et al. 2023;
GPTQ, Frantar et al. 2023, is the same rule).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from tfwsss.export.kernel_inputs import KernelInputs, examine

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


class _Kernel:
    """The weights of one convolution, or of several where the network runs at several scales."""

    def __init__(self, original: np.ndarray, integers: onnx.TensorProto, scales: np.ndarray):
        self.original, self.integers, self.scales = original, integers, scales
        self.users: list[tuple[KernelInputs, onnx.TensorProto, np.ndarray]] = []  # with the bias of each and its scales

    @property
    def moment_bytes(self) -> int:
        return sum(4 * inputs.groups * inputs.parts * inputs.inputs**2 for inputs, _, _ in self.users)

    def round(self) -> None:
        shape, inputs = self.original.shape, self.users[0][0]
        weights = inputs.split(self.original.reshape(inputs.groups, -1, inputs.parts * inputs.inputs)).astype(np.float64)
        scales = np.broadcast_to(self.scales, shape[:1]).reshape(inputs.groups, -1).repeat(inputs.parts, axis=0)
        rounded = round_with_feedback(weights, scales, sum(user.covariance for user, _, _ in self.users))
        self.integers.CopyFrom(numpy_helper.from_array(inputs.joined(rounded).reshape(shape), self.integers.name))
        errors = weights - rounded * scales[:, :, np.newaxis]
        for user, bias, bias_scales in self.users:
            # It makes up for an error that is the same everywhere.
            lost = (errors @ user.mean[:, :, np.newaxis]).reshape(inputs.groups, inputs.parts, -1).sum(1).ravel()
            values = numpy_helper.to_array(bias) + np.rint(lost / bias_scales).astype(np.int32)
            bias.CopyFrom(numpy_helper.from_array(values, bias.name))
        self.users.clear()  # their moments may take hundreds of megabytes


def _kernels(quantized: onnx.ModelProto, model: onnx.ModelProto) -> list[_Kernel]:
    """Those of `quantized` that have 8 bits; nodes have the same names in both."""
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    floats = {tensor.name: tensor for tensor in model.graph.initializer}
    originals = {node.name: node for node in model.graph.node}
    dequantized = {node.output[0]: node for node in quantized.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants}

    def constant(name: str) -> tuple[onnx.TensorProto, np.ndarray]:
        integers, scales = dequantized[name].input[:2]
        return constants[integers], numpy_helper.to_array(constants[scales]).astype(np.float64)

    kernels: dict[str, _Kernel] = {}
    for node in quantized.graph.node:
        if node.op_type == "Conv" and node.input[1] in dequantized:
            original = originals[node.name]
            values = numpy_helper.to_array(floats[original.input[1]])
            kernel = kernels.setdefault(original.input[1], _Kernel(values, *constant(node.input[1])))
            kernel.users.append((KernelInputs(original, values.shape), *constant(node.input[2])))
    return list(kernels.values())


def _batches(kernels: list[_Kernel]) -> Iterator[list[_Kernel]]:
    batch, size = [], 0
    for kernel in kernels:
        if batch and size + kernel.moment_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(kernel)
        size += kernel.moment_bytes
    if batch:
        yield batch


def round_weights(quantized: onnx.ModelProto, model: onnx.ModelProto, images) -> None:
    """Round the convolution weights of `quantized` anew, in place, and correct its biases; the scales stay.

    Args:
        quantized: what `quantize_static` has made of `model` in QDQ form, with symmetric weights of 7 bits and a bias for
            each convolution (`own_biases`).
        model: the float model, input `images`.
        images: uint8 [H, W, 3] photos.
    """
    for batch in _batches(_kernels(quantized, model)):
        examine(model, [inputs for kernel in batch for inputs, _, _ in kernel.users], images)
        for kernel in batch:
            kernel.round()
