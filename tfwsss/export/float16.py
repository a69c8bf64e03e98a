"""Half precision in an ONNX segmenter."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

# Interpolation coordinates and the comparison of nearly equal scores lose the most from short mantissas.
_FLOAT32_OPERATIONS = ["Resize", "ArgMax", "Softmax", "ReduceMean", "GlobalAveragePool"]


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float16; inputs and outputs keep their types."""
    half = convert_float_to_float16(model, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32_OPERATIONS])
    _drop_repeated_casts(half.graph)
    OnnxModel.graph_topological_sort(half.graph)  # the casts it inserts are appended, the standard wants them in order
    return half


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """The converter writes the same Cast once for every float32 operation that reads a value."""
    seen = set()
    for node in [node for node in graph.node if node.op_type == "Cast"]:
        if node.output[0] in seen:
            graph.node.remove(node)
        seen.add(node.output[0])
