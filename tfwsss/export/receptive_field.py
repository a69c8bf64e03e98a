"""How far a segmenter looks: the largest distance, in pixels, between an output pixel and an input pixel it depends on.

A runtime that cuts large photos into tiles needs it to give the same masks as without tiles.
"""

import math
from dataclasses import dataclass, replace

import onnx
from onnx import helper, numpy_helper

# Divisible by every stride, and of different height and width so that the two can be told apart in any layout.
_HEIGHT, _WIDTH = 2048, 1536
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

    def window(self, start: float, extent: float, stride: float) -> "_View":
        """Through an operation whose cell y reads the cells ``y * stride - start`` to ``y * stride - start + extent``."""
        return _View(self.stride * stride, self.before + start * self.stride, self.after + (extent - start) * self.stride)


def _with_fixed_size(model: onnx.ModelProto) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dimension, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (1, _HEIGHT, _WIDTH, 3), strict=True):
        dimension.dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def _through_window(view: _View, attributes: dict, kernel) -> _View:
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
    if node.op_type == "Resize":
        small, large = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
        if len(small) == len(large) == 4 and all(small) and all(large):
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
    fixed = _with_fixed_size(model)
    graph = fixed.graph
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in [*graph.value_info, *graph.input, *graph.output]}
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    shapes |= {name: list(tensor.dims) for name, tensor in arrays.items()}
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
    known = is_plain and final is not None and final.stride == 1
    return {"stride": math.ceil(coarsest), "reach": math.ceil(max(final.before, final.after)) if known else None}
