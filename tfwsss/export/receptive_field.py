"""How far a segmenter looks: the largest distance, in pixels, between an output pixel and an input pixel it depends on.

A runtime that cuts large photos into tiles needs it to give the same masks as without tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

# Height and width of the photo that is run: divisible by every stride.
_SIZE = (256, 192)
# Operations that give each pixel of their output from the same pixel of their inputs. (Reshape and the like occur on
# maps only around global pooling, which is not in this list.)
_POINTWISE = frozenset(
    "Abs Add ArgMax BatchNormalization Cast Clip Concat Div Dropout Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu LogSoftmax Max Min Mul Neg "
    "Pow Reciprocal Relu Sigmoid Softmax Softplus Split Sqrt Sub Tanh Transpose Where".split()
)


@dataclass(frozen=True)
class _View:
    """Cell y of a map depends on the pixel rows ``y * stride - before`` to ``y * stride + after``."""

    stride: float = 1.0
    before: float = 0.0
    after: float = 0.0

    def window(self, start: float, extent: float, stride: float) -> _View:
        """Through an operation whose cell y reads the cells ``y * stride - start`` to ``y * stride - start + extent``."""
        return _View(self.stride * stride, self.before + start * self.stride, self.after + (extent - start) * self.stride)


def _map_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes before and after each Resize and Slice, found by running the model on one photo.

    Shape inference alone does not follow the arithmetic on sizes that leads to the target of a Resize.
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    free = {initializer.name for initializer in model.graph.initializer}
    names = [name for node in model.graph.node if node.op_type in ("Resize", "Slice") for name in (node.input[0], node.output[0]) if name not in free]
    names = list(dict.fromkeys(names))
    # ONNX Runtime fills in the element types of these.
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in {value.name for value in model.graph.output})
    session = onnxruntime.InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])
    arrays = session.run(names, {model.graph.input[0].name: np.zeros((1, *_SIZE, 3), np.uint8)})
    return {name: array.shape for name, array in zip(names, arrays, strict=True)}


def _through_window(view: _View, attributes: dict, kernel) -> _View | None:
    """A convolution or pooling, NCHW; of the two axes the one that looks farther counts."""
    axes = len(kernel)
    dilations, strides, pads = (attributes.get(name, default) for name, default in (("dilations", [1] * axes), ("strides", [1] * axes), ("pads", [0] * 2 * axes)))
    automatic = attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    seen = []
    for size, dilation, stride, start in zip(kernel, dilations, strides, pads, strict=False):
        extent = (size - 1) * dilation
        # Automatic padding splits by the photo's size where the stride is above 1; bound both ways.
        starts = (extent // 2, extent - extent // 2) if automatic and stride == 1 else (0, extent) if automatic else (start,)
        seen += [view.window(begin, extent, stride) for begin in starts]
    return _farthest(seen)


def _farthest(views) -> _View | None:
    """The union of what several views see; None when one sees everything or their grids differ."""
    views = list(views)
    if None in views or len({view.stride for view in views}) != 1:
        return None
    return replace(views[0], before=max(view.before for view in views), after=max(view.after for view in views))


def _through(node, view: _View, shapes: dict, arrays: dict) -> _View | None:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type in _POINTWISE:
        return view
    if node.op_type == "Conv":
        return _through_window(view, attributes, shapes[node.input[1]][2:])
    if node.op_type in ("MaxPool", "AveragePool"):
        return _through_window(view, attributes, attributes["kernel_shape"])
    if node.op_type == "Pad" and node.input[1] in arrays:
        start = int(numpy_helper.to_array(arrays[node.input[1]]).reshape(2, -1)[0].max())
        return view.window(start, 0, 1)
    if node.op_type == "Slice" and shapes[node.input[0]] == shapes[node.output[0]]:
        return view  # RGB to BGR
    if node.op_type == "Resize":
        small, large = shapes[node.input[0]], shapes[node.output[0]]
        if len(small) == len(large) == 4:
            ratio = small[2] / large[2]
            # Half-pixel centres: cell y lies between the cells (y + 1/2) * ratio - 1/2 rounded down and up.
            return view.window(1.5 - 0.5 * ratio, 2.0, ratio)
    return None


def receptive_field(model: onnx.ModelProto, is_plain: bool = True) -> dict:
    """Follow the graph of an fp32 ONNX segmenter from its photo to its output.

    Returns:
        `stride`: the coarsest grid of the network, pixels; tiles must start and end on it.
        `reach`: pixels that an output pixel depends on in each direction, or None when it is the whole photo (image
        pooling, test-time variants) or cannot be told.
    """
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    shapes = _map_shapes(model) | {name: tuple(tensor.dims) for name, tensor in arrays.items()}
    views: dict[str, _View | None] = {graph.input[0].name: _View()}
    coarsest = 1.0
    for node in graph.node:
        sources = [name for name in node.input if name in views]
        if not sources or node.op_type == "Shape":
            continue  # computed from constants or from the photo's size, not from its pixels
        view = _farthest(views[name] for name in sources)
        view = None if view is None else _through(node, view, shapes, arrays)
        coarsest = max(coarsest, view.stride if view else 1.0)
        views |= dict.fromkeys(node.output, view)
    final = views.get(graph.output[0].name)
    reach = math.ceil(max(final.before, final.after)) if is_plain and final is not None and final.stride == 1 else None
    return {"stride": math.ceil(coarsest), "reach": reach}
