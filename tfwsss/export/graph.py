"""Small changes of an ONNX graph, from which the larger ones are made."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper


def attribute(node: onnx.NodeProto, name: str, default):
    """The value of a node's attribute, or `default`."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def add_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """Add an initializer; returns its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def drop_unused(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Remove those of the named initializers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in names and tensor.name not in used]:
        graph.initializer.remove(tensor)


def replace(graph: onnx.GraphProto, old: onnx.NodeProto, new: list[onnx.NodeProto]) -> None:
    """Put nodes in the place of one, in the order of computation."""
    place = list(graph.node).index(old)
    graph.node.remove(old)
    for node in reversed(new):
        graph.node.insert(place, node)


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value."""
    return {name: node for node in graph.node for name in node.output}


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each value; a node is there once for every input that is this value."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found
