"""Graphs changed after quantisation compute the same, and more of it in integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tfwsss.export.int8.fusing import share_scales, sizes_of_integers


def quantized_pair(name: str, scale: float, zero: int, source: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """`source` -> QuantizeLinear -> DequantizeLinear -> `name`_dequantized."""
    constants = [numpy_helper.from_array(np.float32(scale), f"{name}_scale"), numpy_helper.from_array(np.uint8(zero), f"{name}_zero")]
    parameters = [constant.name for constant in constants]
    nodes = [
        helper.make_node("QuantizeLinear", [source, *parameters], [f"{name}_quantized"]),
        helper.make_node("DequantizeLinear", [f"{name}_quantized", *parameters], [f"{name}_dequantized"]),
    ]
    return nodes, constants


def graph(nodes, constants, inputs, outputs) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2, "h"]) for name in inputs]
    outputs = [helper.make_tensor_value_info(name, kind, [3] if kind == TensorProto.INT64 else ["b", "c", "h"]) for name, kind in outputs]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, **inputs) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)


def concatenation(scales, zeros=(0, 0), kind: str = "Relu") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Two maps, quantised, behind each other, quantised; and its float form, in which `kind` makes the first map."""
    nodes, constants = [], [numpy_helper.from_array(np.float32(6), "six"), numpy_helper.from_array(np.float32(0), "nil")]
    for name, source, scale, zero in zip("ab", ("x", "y"), scales, zeros, strict=True):
        more, found = quantized_pair(name, scale, zero, source)
        nodes, constants = nodes + more, constants + found
    nodes.append(helper.make_node("Concat", ["a_dequantized", "b_dequantized"], ["both"], axis=1))
    more, found = quantized_pair("both", 0.1, 0, "both")
    model = graph(nodes + more, constants + found, "xy", [("both_dequantized", TensorProto.FLOAT)])
    made = helper.make_node(kind, ["w"] + ["nil", "six"] * (kind == "Clip"), ["x"])
    floats = graph([made, helper.make_node("Concat", ["x", "y"], ["both"], axis=1)], constants[:2], "wy", [("both", TensorProto.FLOAT)])
    return model, floats


def scales_of(model: onnx.ModelProto) -> dict[str, str]:
    return {node.output[0]: node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}


def test_parts_of_a_concatenation_get_the_scale_of_the_whole():
    model, floats = concatenation((0.03, 0.1))
    x, y = (np.random.default_rng(seed).uniform(0, high, (1, 2, 50)).astype(np.float32) for seed, high in ((0, 7), (1, 25)))
    assert share_scales(model, floats) == 1
    assert set(scales_of(model).values()) == {"both_scale", "b_scale"}  # b's is equal
    assert "a_scale" not in {tensor.name for tensor in model.graph.initializer}
    onnx.checker.check_model(model, full_check=True)
    (found,) = run(model, x=x, y=y)
    np.testing.assert_allclose(found, np.concatenate([x, y], 1), atol=0.05 + 1e-6)
    assert share_scales(model, floats) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"scales": (0.024, 0.1)}, "more than two bits"),
        ({"scales": (0.05, 0.1), "zeros": (3, 0)}, "a left out Relu needs its own zero"),
        ({"scales": (6 / 255, 0.09), "kind": "Clip"}, "a left out Clip needs its own range"),
    ],
)
def test_a_part_keeps_a_scale_that_it_needs(arguments, reason):
    model, floats = concatenation(**arguments)
    share_scales(model, floats)
    assert scales_of(model)["a_quantized"] == scales_of(model)["a_dequantized"] == "a_scale", reason


def test_sizes_are_those_of_the_integers():
    nodes, constants = quantized_pair("a", 0.1, 0, "x")
    copy = helper.make_node("DequantizeLinear", list(nodes[1].input), ["for_its_size"])
    size, other = helper.make_node("Shape", ["for_its_size"], ["size"]), helper.make_node("Shape", ["x"], ["other"])
    outputs = [("a_dequantized", TensorProto.FLOAT), ("size", TensorProto.INT64), ("other", TensorProto.INT64)]
    model = graph([*nodes, copy, size, other], constants, "x", outputs)
    x = np.ones((3, 2, 4), np.float32)
    expected = run(model, x=x)
    sizes_of_integers(model)
    assert [node.op_type for node in model.graph.node] == ["QuantizeLinear", "DequantizeLinear", "Shape", "Shape"]
    onnx.checker.check_model(model, full_check=True)
    for found, wanted in zip(run(model, x=x), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
