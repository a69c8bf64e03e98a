"""The means of group normalisation as reductions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, shape_inference

from tfwsss.export.graph import add_constant, replace

_AXES_ARE_INPUTS = 18  # the operator set from which ReduceMean takes its axes as a tensor


def reduce_group_means(model: onnx.ModelProto) -> None:
    """Turn each GlobalAveragePool over one axis, which the converter makes of a mean, back into a ReduceMean.

    A group of a decoder's map of 94x125 is one axis of 94,000 values: a window that poolings are not made for, while reductions are.
    What it changes on a GPU has not been measured (docs/performance.md).
    """
    graph = model.graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in shape_inference.infer_shapes(model).graph.value_info}
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in [node for node in graph.node if node.op_type == "GlobalAveragePool" and ranks.get(node.input[0]) == 3]:
        if opset < _AXES_ARE_INPUTS:
            means = helper.make_node("ReduceMean", node.input, node.output, node.name, axes=[2], keepdims=1)
        else:
            axes = add_constant(graph, f"{node.name}/axes", np.array([2], np.int64))
            means = helper.make_node("ReduceMean", [*node.input, axes], node.output, node.name, keepdims=1)
        replace(graph, node, [means])
