"""Arithmetic of an ONNX segmenter: multiplications and additions of its convolutions and matrix products."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
from onnx import helper


def count_flops(model: onnx.ModelProto, height: int, width: int) -> int:
    """Floating-point operations of one photo, a multiplication and an addition counted as two.

    Counts convolutions and matrix products with constant weights, where all but a few per cent of the time goes: of an
    fp32 file of `export_onnx`. Map sizes are those that occur when the model runs.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    counted = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul") and node.input[1] in weights]
    for number, node in enumerate(counted):  # the shapes alone: all maps together may not fit into memory
        probed.graph.node.append(helper.make_node("Shape", [node.output[0]], [f"flops/{number}"]))
        probed.graph.output.append(helper.make_tensor_value_info(f"flops/{number}", onnx.TensorProto.INT64, None))
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.zeros((1, height, width, 3), np.uint8)
    shapes = session.run([f"flops/{number}" for number in range(len(counted))], {model.graph.input[0].name: image})
    total = 0
    for node, shape in zip(counted, shapes, strict=True):
        kernel = weights[node.input[1]]
        sums = math.prod(kernel[1:]) if node.op_type == "Conv" else kernel[0]  # products that one output value adds up
        total += 2 * sums * int(np.prod(shape))
    return total
