"""Changes of an ONNX segmenter's form that runtimes do not make themselves, without changing what it computes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_ACTIVATIONS = ("Relu", "Clip")


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


def score_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions that make the class scores: one, or one for each test-time variant, with the same weights."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node for node in convolutions if node.input[1] == convolutions[-1].input[1]]


def scores_by_matmul(model: onnx.ModelProto) -> list[str]:
    """Turn the convolutions that make the scores, if they are 1x1, into matrix products over the channels.

    A quantised convolution has a quantised result. A matrix product of 8-bit factors may have a float32 result, which
    is what class scores need, whose small differences decide. Returns the names of the nodes to quantise.
    """
    graph = model.graph
    nodes = score_convolutions(model)
    kernel_name = nodes[0].input[1]
    kernel = numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == kernel_name))
    if kernel.shape[2:] != (1, 1):
        return []
    matrix = _constant(graph, "score/matrix", np.ascontiguousarray(kernel[:, :, 0, 0].T))
    names = []
    for number, node in enumerate(nodes):
        prefix = "score" if number == 0 else f"score_{number}"
        new = [
            helper.make_node("Transpose", [node.input[0]], [f"{prefix}/channels_last"], f"{prefix}/channels_last", perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", [f"{prefix}/channels_last", matrix], [f"{prefix}/product"], f"{prefix}/matmul"),
        ]
        names += [node.name for node in new]
        if len(node.input) > 2:
            new.append(helper.make_node("Add", [f"{prefix}/product", node.input[2]], [f"{prefix}/sum"], f"{prefix}/bias"))
        new.append(helper.make_node("Transpose", [new[-1].output[0]], [node.output[0]], f"{prefix}/channels_first", perm=[0, 3, 1, 2]))
        _replace(graph, node, new)
    _drop_unused(graph, [kernel_name])
    return names


def own_biases(model: onnx.ModelProto) -> None:
    """Give every convolution a bias that no other has, zeros where it had none: what is later corrected is this convolution's."""
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate([node for node in graph.node if node.op_type == "Conv"]):
        outputs, old = arrays[node.input[1]].dims[0], node.input[2] if len(node.input) > 2 else None
        bias = numpy_helper.to_array(arrays[old]) if old else np.zeros(outputs, np.float32)
        del node.input[2:]
        node.input.append(_constant(graph, f"bias_{number}", bias))
        _drop_unused(graph, [old])


def _grow(graph: onnx.GraphProto, node: onnx.NodeProto, position: int, axis: int, extra: int) -> None:
    """Append `extra` zeros along `axis` of a node's constant input."""
    tensor = next(tensor for tensor in graph.initializer if tensor.name == node.input[position])
    array = numpy_helper.to_array(tensor)
    padding = [(0, extra if index == axis else 0) for index in range(array.ndim)]
    node.input[position] = _constant(graph, f"{node.name}/grown_{position}", np.pad(array, padding))
    _drop_unused(graph, [tensor.name])


def align_depthwise(model: onnx.ModelProto, multiple: int = 16) -> int:
    """Give depthwise convolutions behind a concatenation channels in multiples of 16; returns how many were changed.

    ONNX Runtime's 8-bit depthwise kernel is three times slower on other numbers, which the decoder has at reduced width.
    The additional channels are zeros of the convolution that makes the last part of the concatenation.
    """
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def alone(name: str, kind: str) -> bool:  # besides readers of its height and width
        return [node.op_type for node in readers.get(name, []) if node.op_type != "Shape"] == [kind]

    changed = 0
    for node in [node for node in graph.node if node.op_type == "Conv" and _attribute(node, "group", 1) > 1]:
        channels, source = _attribute(node, "group", 1), producers.get(node.input[0])
        if channels % multiple == 0 or weights.get(node.input[1], ())[:2] != (channels, 1) or source is None or source.op_type != "Concat":
            continue
        last = producers.get(source.input[-1])
        activation = last if last is not None and last.op_type in _ACTIVATIONS else None
        made = producers.get(activation.input[0]) if activation is not None else last
        after = readers.get(node.output[0], [])
        while len(after) == 1 and after[0].op_type in _ACTIVATIONS:
            after = readers.get(after[0].output[0], [])
        whole = (
            made is not None
            and made.op_type == "Conv"
            and _attribute(made, "group", 1) == 1
            and alone(source.output[0], "Conv")
            and alone(source.input[-1], "Concat")
            and (activation is None or alone(activation.input[0], activation.op_type))
            and after
            and all(reader.op_type == "Conv" and _attribute(reader, "group", 1) == 1 for reader in after)
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
