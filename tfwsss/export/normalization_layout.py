"""The colours' normalisation of an ONNX segmenter in the form that runtimes compute fastest."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tfwsss.export.graph import add_constant, drop_unused, replace


def spread_normalization(model: onnx.ModelProto) -> None:
    """Turn each 1x1 convolution that only scales, shifts and reorders the colours into one multiplication and one addition.

    `Inference` traces the normalisation as a convolution, so that the converter puts channels first before it; as a
    convolution it would be computed in blocks of 16 channels of which 13 are padding.
    """
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate([node for node in graph.node if node.op_type == "Conv"]):
        kernel = numpy_helper.to_array(arrays[node.input[1]]) if node.input[1] in arrays else np.empty(0)
        if kernel.shape != (3, 3, 1, 1) or len(node.input) < 3 or (np.count_nonzero(kernel, axis=1) != 1).any():
            continue
        order = np.abs(kernel[:, :, 0, 0]).argmax(1)
        scale, shift = kernel[range(3), order], numpy_helper.to_array(arrays[node.input[2]])[:, np.newaxis, np.newaxis]
        prefix, source, nodes = f"normalization_{number}", node.input[0], []
        if list(order) != [0, 1, 2]:
            channels = add_constant(graph, f"{prefix}/order", order.astype(np.int64))
            nodes.append(helper.make_node("Gather", [source, channels], [f"{prefix}/reordered"], f"{prefix}/reorder", axis=1))
            source = f"{prefix}/reordered"
        for kind, value, target in (("Mul", scale, f"{prefix}/scaled"), ("Add", shift, node.output[0])):
            if kind == "Mul" and (value == 1).all():
                continue
            value = value.reshape(3, 1, 1) if np.ptp(value) else value.ravel()[0]  # a scalar goes with any layout
            factor = add_constant(graph, f"{prefix}/{kind}", np.asarray(value, np.float32))
            nodes.append(helper.make_node(kind, [source, factor], [target], f"{prefix}/{kind}"))
            source = target
        replace(graph, node, nodes)
        drop_unused(graph, node.input)
