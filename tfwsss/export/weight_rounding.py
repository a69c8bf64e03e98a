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

_BLOCK = 128  # weights between which the feedback is not a matrix product
_BATCH_BYTES = 1 << 30  # for the moments of the convolutions that are examined in one go


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


class _Convolution:
    """The arrays of one convolution in the quantised model, its weights in the float model, and what it sees there."""

    def __init__(self, node: onnx.NodeProto, kernel: np.ndarray, weights, bias):
        self.inputs = KernelInputs(node, kernel.shape)
        self.kernel = kernel
        self.weights, self.scales = weights
        self.bias, self.bias_scales = bias

    def round(self) -> None:
        shape, inputs = self.kernel.shape, self.inputs
        weights = self.kernel.reshape(inputs.groups, -1, inputs.inputs).astype(np.float64)
        scales = np.broadcast_to(self.scales, shape[:1]).reshape(inputs.groups, -1)
        rounded = round_with_feedback(weights, scales, inputs.covariance)
        self.weights.CopyFrom(numpy_helper.from_array(rounded.reshape(shape), self.weights.name))
        # The bias makes up for an error that is the same everywhere.
        lost = ((weights - rounded * scales[:, :, np.newaxis]) @ inputs.mean[:, :, np.newaxis]).ravel()
        bias = numpy_helper.to_array(self.bias) + np.rint(lost / self.bias_scales).astype(np.int32)
        self.bias.CopyFrom(numpy_helper.from_array(bias, self.bias.name))


def _convolutions(quantized: onnx.ModelProto, model: onnx.ModelProto) -> list[_Convolution]:
    """Those of `quantized` that have 8-bit weights; nodes have the same names in both."""
    integers = {tensor.name: tensor for tensor in quantized.graph.initializer}
    floats = {tensor.name: tensor for tensor in model.graph.initializer}
    originals = {node.name: node for node in model.graph.node}
    producers = {node.output[0]: node for node in quantized.graph.node}

    def constant(name: str):
        node = producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in integers:
            return None
        return integers[node.input[0]], numpy_helper.to_array(integers[node.input[1]]).astype(np.float64)

    found = []
    for node in [node for node in quantized.graph.node if node.op_type == "Conv"]:
        weights, original = constant(node.input[1]), originals[node.name]
        if weights is not None:
            found.append(_Convolution(original, numpy_helper.to_array(floats[original.input[1]]), weights, constant(node.input[2])))
    return found


def _batches(convolutions: list[_Convolution]) -> Iterator[list[_Convolution]]:
    batch, size = [], 0
    for convolution in convolutions:
        needed = 8 * convolution.inputs.groups * convolution.inputs.inputs**2
        if batch and size + needed > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(convolution)
        size += needed
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
    for batch in _batches(_convolutions(quantized, model)):
        examine(model, [convolution.inputs for convolution in batch], images)
        for convolution in batch:
            convolution.round()
            convolution.inputs = None  # its moments may take hundreds of megabytes
