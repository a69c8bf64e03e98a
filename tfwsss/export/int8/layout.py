"""Changes of an ONNX segmenter's form before it is quantised, without changing what it computes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tfwsss.export import graph as graphs

ACTIVATIONS = ("Relu", "Clip")  # part of the convolution before or after them


def _is_normalized(name: str, readers: dict[str, list[onnx.NodeProto]]) -> bool:
    """Whether a batch normalisation reads a value, or a value of another shape made of it."""
    after = readers.get(name, [])
    return any(
        node.op_type == "BatchNormalization" or (node.op_type in ("Reshape", "Transpose") and _is_normalized(node.output[0], readers))
        for node in after
    )


def products_in_float32(model: onnx.ModelProto, quantized: set[str]) -> list[str]:
    """Turn 1x1 convolutions whose results are not quantised anyway into matrix products over the channels.

    A quantised convolution has a quantised result, which would be converted back for each operation that reads it. A
    matrix product of 8-bit factors may have a float32 result. Class scores need it, whose small differences decide;
    group normalisation gains from it twice: it sees no rounded values, and three conversions of large maps are saved.

    Args:
        quantized: names of the nodes that are to be quantised.

    Returns:
        Names of the new nodes to quantise instead of the convolutions.
    """
    graph = model.graph
    readers = graphs.readers(graph)
    kernels = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 4}
    names: list[str] = []
    replaced = set()
    for node in [node for node in graph.node if node.op_type == "Conv" and node.name in quantized]:
        kernel = kernels.get(node.input[1])
        if kernel is None or list(kernel.dims[2:]) != [1, 1] or graphs.attribute(node, "group", 1) != 1:
            continue
        if any(step != 1 for step in graphs.attribute(node, "strides", [1])) or any(graphs.attribute(node, "pads", [0])):
            continue
        after = [reader for reader in readers.get(node.output[0], []) if reader.op_type != "Shape"]
        # ONNX Runtime 1.19 would make one product of both, and fail as it has four axes.
        if any(reader.name in quantized for reader in after) or _is_normalized(node.output[0], readers):
            continue
        matrix = f"{kernel.name}/matrix"
        if kernel.name not in replaced:  # test-time variants share it
            graphs.add_constant(graph, matrix, np.ascontiguousarray(numpy_helper.to_array(kernel)[:, :, 0, 0].T))
            replaced.add(kernel.name)
        last, product, first = (f"{node.name}/{part}" for part in ("channels_last", "product", "channels_first"))
        new = [
            helper.make_node("Transpose", [node.input[0]], [last], last, perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", [last, matrix], [product], product),
            helper.make_node("Transpose", [product], [first], first, perm=[0, 3, 1, 2]),
        ]
        names += [last, product]
        if len(node.input) > 2:  # after the transposition, where one number goes with a whole channel
            bias = next(tensor for tensor in graph.initializer if tensor.name == node.input[2])
            column = graphs.add_constant(graph, f"{node.name}/column", numpy_helper.to_array(bias).reshape(-1, 1, 1))
            new.append(helper.make_node("Add", [first, column], [node.output[0]], f"{node.name}/bias"))
        else:
            new[-1].output[0] = node.output[0]
        graphs.replace(graph, node, new)
        graphs.drop_unused(graph, node.input)
    return names


def score_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of the convolutions that make the class scores: one, or one for each test-time variant, with the same weights."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return {node.name for node in convolutions if node.input[1] == convolutions[-1].input[1]}


def own_biases(model: onnx.ModelProto) -> None:
    """Give every convolution a bias that no other has, zeros where it had none: what is later corrected is this convolution's."""
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate([node for node in graph.node if node.op_type == "Conv"]):
        outputs, old = arrays[node.input[1]].dims[0], node.input[2] if len(node.input) > 2 else None
        bias = numpy_helper.to_array(arrays[old]) if old else np.zeros(outputs, np.float32)
        del node.input[2:]
        node.input.append(graphs.add_constant(graph, f"bias_{number}", bias))
        graphs.drop_unused(graph, [old] if old else [])


def _grow(graph: onnx.GraphProto, node: onnx.NodeProto, position: int, axis: int, extra: int) -> None:
    """Append `extra` zeros along `axis` of a node's constant input."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == node.input[position])
    array = numpy_helper.to_array(tensor)
    padding = [(0, extra if index == axis else 0) for index in range(array.ndim)]
    node.input[position] = graphs.add_constant(graph, f"{node.name}/grown_{position}", np.pad(array, padding))
    graphs.drop_unused(graph, [tensor.name])


def align_depthwise(model: onnx.ModelProto, multiple: int = 16) -> int:
    """Give depthwise convolutions behind a concatenation channels in multiples of 16; returns how many were changed.

    ONNX Runtime's 8-bit depthwise kernel is three times slower on other numbers, which the decoder has at reduced width.
    The additional channels are zeros of the convolution that makes the last part of the concatenation.
    """
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers, readers = graphs.producers(graph), graphs.readers(graph)

    def alone(name: str, kind: str) -> bool:  # besides readers of its height and width
        return [node.op_type for node in readers.get(name, []) if node.op_type != "Shape"] == [kind]

    changed = 0
    for node in [node for node in graph.node if node.op_type == "Conv" and graphs.attribute(node, "group", 1) > 1]:
        channels, source = graphs.attribute(node, "group", 1), producers.get(node.input[0])
        if channels % multiple == 0 or weights.get(node.input[1], ())[:2] != (channels, 1) or source is None or source.op_type != "Concat":
            continue
        last = producers.get(source.input[-1])
        activation = last if last is not None and last.op_type in ACTIVATIONS else None
        made = producers.get(activation.input[0]) if activation is not None else last
        after = readers.get(node.output[0], [])
        while len(after) == 1 and after[0].op_type in ACTIVATIONS:
            after = readers.get(after[0].output[0], [])
        if made is None:
            continue
        whole = (
            made.op_type == "Conv"
            and graphs.attribute(made, "group", 1) == 1
            and alone(source.output[0], "Conv")
            and alone(source.input[-1], "Concat")
            and (activation is None or alone(activation.input[0], activation.op_type))
            and after
            and all(reader.op_type == "Conv" and graphs.attribute(reader, "group", 1) == 1 for reader in after)
        )
        if not whole:
            continue
        extra = -channels % multiple
        for grown in (made, node):
            for position in range(1, len(grown.input)):
                _grow(graph, grown, position, 0, extra)
        for reader in after:
            _grow(graph, reader, 1, 1, extra)
        for item in node.attribute:
            if item.name == "group":
                item.i = channels + extra
        changed += 1
    return changed
