"""Changes of a quantised graph that let runtimes compute more of it in integers."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from tfwsss.export import graph as graphs

_COARSER = 4.0  # times: at most two of a map's eight bits are given up


def sizes_of_integers(model: onnx.ModelProto) -> None:
    """Take sizes from the 8-bit maps: a runtime would convert a whole map to float32, and reorder it, to ask for its size."""
    graph = model.graph
    producers = graphs.producers(graph)
    for node in [node for node in graph.node if node.op_type == "Shape"]:
        source = producers.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            node.input[0] = source.input[0]
    outputs = {value.name for value in graph.output}
    readers = graphs.readers(graph)
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        if node.output[0] not in readers and node.output[0] not in outputs:
            graph.node.remove(node)
            graphs.drop_unused(graph, node.input)


def share_scales(model: onnx.ModelProto, floats: onnx.ModelProto) -> int:
    """Give the parts of concatenated maps the scale of the whole, so that they are copied and not computed anew.

    The range of the whole holds that of every part. A part keeps its own scale where it would lose more than two bits,
    or where its scale ends at the largest value of a Clip that is left out for it.

    Args:
        model: in QDQ form, changed in place.
        floats: what it was made of; values have the same names.

    Returns:
        The number of parts that have a new scale.
    """
    graph = model.graph
    producers, readers = graphs.producers(graph), graphs.readers(graph)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    clipped = {node.output[0] for node in floats.graph.node if node.op_type == "Clip"}
    changed = 0
    for node in [node for node in graph.node if node.op_type == "Concat"]:
        after = readers.get(node.output[0], [])
        if len(after) != 1 or after[0].op_type != "QuantizeLinear":
            continue
        scale, zero = after[0].input[1:3]
        for name in node.input:
            dequantize = producers.get(name)
            quantize = producers.get(dequantize.input[0]) if dequantize is not None and dequantize.op_type == "DequantizeLinear" else None
            if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.input[0] in clipped:
                continue
            own_scale, own_zero = quantize.input[1:3]
            if constants[own_zero] != constants[zero] or not constants[own_scale] < constants[scale] <= _COARSER * constants[own_scale]:
                continue
            for user in (quantize, *(reader for reader in readers[quantize.output[0]] if reader.op_type == "DequantizeLinear")):
                user.input[1], user.input[2] = scale, zero
            graphs.drop_unused(graph, [own_scale, own_zero])
            changed += 1
    return changed
