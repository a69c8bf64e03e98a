"""Changes of an ONNX segmenter's form that runtimes do not make themselves, without changing what it computes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _drop_unused(graph: onnx.GraphProto, names) -> None:
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in names and tensor.name not in used]:
        graph.initializer.remove(tensor)


def _replace(graph: onnx.GraphProto, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    place = list(graph.node).index(old)
    graph.node.remove(old)
    for node in reversed(new):
        graph.node.insert(place, node)


def _attribute(node: onnx.NodeProto, name: str, default):
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


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
            channels = _constant(graph, f"{prefix}/order", order.astype(np.int64))
            nodes.append(helper.make_node("Gather", [source, channels], [f"{prefix}/reordered"], f"{prefix}/reorder", axis=1))
            source = f"{prefix}/reordered"
        for kind, value, target in (("Mul", scale, f"{prefix}/scaled"), ("Add", shift, node.output[0])):
            if kind == "Mul" and (value == 1).all():
                continue
            value = value.reshape(3, 1, 1) if np.ptp(value) else value.ravel()[0]  # a scalar goes with any layout
            nodes.append(helper.make_node(kind, [source, _constant(graph, f"{prefix}/{kind}", np.asarray(value, np.float32))], [target], f"{prefix}/{kind}"))
            source = target
        _replace(graph, node, nodes)
        _drop_unused(graph, node.input)


def scores_by_matmul(model: onnx.ModelProto) -> str | None:
    """Turn the last convolution, if it is 1x1, into a matrix product over the channels; returns that node's name.

    A quantised convolution has a quantised result. A matrix product of 8-bit factors may have a float32 result, which
    is what class scores need, whose small differences decide.
    """
    graph = model.graph
    node = [node for node in graph.node if node.op_type == "Conv"][-1]
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    kernel = numpy_helper.to_array(arrays[node.input[1]])
    if kernel.shape[2:] != (1, 1):
        return None
    matrix = _constant(graph, "score/matrix", np.ascontiguousarray(kernel[:, :, 0, 0].T))
    nodes = [
        helper.make_node("Transpose", [node.input[0]], ["score/channels_last"], "score/channels_last", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["score/channels_last", matrix], ["score/product"], "score/matmul"),
    ]
    if len(node.input) > 2:
        nodes.append(helper.make_node("Add", ["score/product", node.input[2]], ["score/sum"], "score/bias"))
    nodes.append(helper.make_node("Transpose", [nodes[-1].output[0]], [node.output[0]], "score/channels_first", perm=[0, 3, 1, 2]))
    _replace(graph, node, nodes)
    _drop_unused(graph, node.input)
    return "score/matmul"
