"""Dilated convolutions in ONNX. TensorFlow stores them as SpaceToBatch -> convolution -> BatchToSpace.

tf2onnx turns that into one dilated convolution only when the photo's size is fixed. With free sizes it leaves padding,
six-dimensional reshapes and transposes around every dilated layer, which are slow and cannot be quantised.
"""

import numpy as np
from tf2onnx.graph_matcher import GraphMatcher, OpTypePattern

_PATTERN = OpTypePattern(
    "BatchToSpaceND",
    name="after",
    inputs=[
        OpTypePattern(
            "DepthwiseConv2dNative|Conv2D",
            name="convolution",
            inputs=[
                OpTypePattern("SpaceToBatchND", name="before", inputs=[OpTypePattern("*"), OpTypePattern("Const|ConstV2"), OpTypePattern("*")]),
                OpTypePattern("*"),
            ],
        ),
        OpTypePattern("Const|ConstV2"),
        OpTypePattern("*"),
    ],
)
_PASS_THROUGH = {"Concat", "ConcatV2", "StridedSlice", "Pack", "ExpandDims", "Identity"}


def _end_padding(node):
    """The constant [2] that TensorFlow adds to the size-dependent padding, or None when the graph looks different.

    The end padding is ``base_end + (-(size + base)) mod block``; a constant 0 may have been folded away.
    """
    while node.type in _PASS_THROUGH:
        free = [source for source in node.inputs if not source.is_const()]
        if not free:
            return None
        node = free[0]
    if node.type == "FloorMod":
        return np.zeros(2, np.int64)
    if node.type not in ("Add", "AddV2"):
        return None
    kinds = [source.type for source in node.inputs]
    if "FloorMod" not in kinds:
        return None
    constant = node.inputs[1 - kinds.index("FloorMod")]
    return np.broadcast_to(constant.get_tensor_value(as_list=False), 2) if constant.is_const() else None


def fuse_dilated_convolutions(graph, operations):
    """tf2onnx rewriter: replace each triple by one convolution with dilations and explicit padding."""
    for match in list(GraphMatcher(_PATTERN, allow_reorder=False).match_ops(operations)):
        before, convolution, after = (match.get_op(name) for name in ("before", "convolution", "after"))
        dilation = before.inputs[1].get_tensor_value(as_list=True)
        kernel = graph.get_shape(convolution.input[1])
        end = _end_padding(before.inputs[2])
        same_block = dilation == after.inputs[1].get_tensor_value(as_list=True)
        if not same_block or len(dilation) != 2 or end is None or kernel is None or convolution.get_attr_value("padding") != b"VALID":
            continue
        total = (np.array(kernel[:2]) - 1) * dilation
        start = total - end if end.any() else np.zeros(2, np.int64)
        if end.any() and not np.array_equal(start, total // 2):
            continue  # neither "same" nor "valid": not a Keras convolution
        graph.replace_inputs(convolution, [before.input[0], convolution.input[1]])
        graph.copy_shape(after.output[0], convolution.output[0])
        graph.replace_all_inputs(after.output[0], convolution.output[0])
        convolution.set_attr("dilations", [1, *dilation, 1])
        convolution.set_attr("padding", "EXPLICIT")
        convolution.set_attr("explicit_paddings", [0, 0, int(start[0]), int(end[0]), int(start[1]), int(end[1]), 0, 0])
    return graph.get_nodes()
