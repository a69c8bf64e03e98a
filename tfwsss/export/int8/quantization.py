"""8-bit integers in an ONNX segmenter, calibrated on photos."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from tfwsss.errors import ExportError
from tfwsss.export import graph as graphs
from tfwsss.export.int8.fusing import share_scales, sizes_of_integers
from tfwsss.export.int8.layout import ACTIVATIONS, align_depthwise, own_biases, products_in_float32, score_convolutions
from tfwsss.export.int8.weight_rounding import round_weights

# Of feature maps that are quantised anyway. Resize stays in float32: ONNX Runtime's is five times faster there.
_FOLLOWERS = ("Add", "Concat", "MaxPool", "GlobalAveragePool")
ROUNDINGS = ("feedback", "nearest")
_CALIBRATION = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}


class _Photos(CalibrationDataReader):
    def __init__(self, images):
        self._images = images
        self.set_range(0, len(images))

    def __len__(self):
        return len(self._images)

    def set_range(self, start_index: int, end_index: int):
        self._rest = iter(self._images[start_index:end_index])

    def get_next(self):
        image = next(self._rest, None)
        return None if image is None else {"images": image[np.newaxis]}


def _fold(model: onnx.ModelProto, folder: Path) -> Path:
    """Let ONNX Runtime fold constants and batch normalisation first: what is folded needs no activation range."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return folder / "folded.onnx"


def quantized_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that are worth 8 bits: convolutions and what lies between them.

    An operation on maps whose sources are not quantised (group normalisation, test-time variants) or on sizes would gain
    nothing from it and lose accuracy; the variance of a group in 8 bits is none.
    """
    producers = graphs.producers(graph)
    constants = {tensor.name for tensor in graph.initializer}
    chosen: set[str] = set()
    quantized: set[str] = set()  # with the resized copies of quantised maps
    for node in graph.node:
        sources = [producers.get(name) for name in node.input if name and name not in constants]
        if node.op_type == "Conv" or node.op_type in ACTIVATIONS:
            chosen.add(node.name)
        elif node.op_type in _FOLLOWERS and all(source is not None and source.name in quantized for source in sources):
            chosen.add(node.name)
        if node.name in chosen or (node.op_type == "Resize" and sources[0] is not None and sources[0].name in quantized):
            quantized.add(node.name)
    return chosen


def to_int8(model: onnx.ModelProto, images, calibration: str, rounding: str = "feedback") -> onnx.ModelProto:
    """Static quantisation in QDQ form: activations per tensor, weights per output channel, class scores in float32.

    Args:
        images: uint8 [H, W, 3] photos, of any sizes.
        calibration: "minmax", "entropy" or "percentile".
        rounding: "feedback": see `tfwsss.export.int8.weight_rounding`; "nearest": each weight for itself.

    Raises:
        ExportError: unknown `calibration` or `rounding`, or an image of another type or shape.
    """
    if calibration not in _CALIBRATION:
        raise ExportError(f"calibration: found {calibration!r}, expected one of {', '.join(_CALIBRATION)}")
    if rounding not in ROUNDINGS:
        raise ExportError(f"rounding: found {rounding!r}, expected one of {', '.join(ROUNDINGS)}")
    images = [np.asarray(image) for image in images]
    for index, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ExportError(f"calibration_images[{index}]: found {image.dtype} {image.shape}, expected uint8 [H, W, 3]")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folded = onnx.load(_fold(model, folder))
        scores = score_convolutions(folded)
        products = products_in_float32(folded, quantized_nodes(folded.graph))
        align_depthwise(folded)
        own_biases(folded)
        add_pre_process_metadata(folded)  # else quantize_static advises to prepare the model
        onnx.save(folded, folder / "prepared.onnx")
        # Scores of another form than 1x1 stay in float32: neighbouring labels are told apart by small differences.
        nodes = quantized_nodes(folded.graph) - scores | set(products)
        quantize_static(
            folder / "prepared.onnx",
            folder / "int8.onnx",
            _Photos(images),
            quant_format=QuantFormat.QDQ,
            # ONNX Runtime 1.19 wants a range for every Softmax, quantised or not.
            op_types_to_quantize=sorted({"Softmax", *(node.op_type for node in folded.graph.node if node.name in nodes)}),
            nodes_to_quantize=sorted(nodes),
            per_channel=True,
            # Of 7 bits: processors without 8-bit dot products (AVX2) add two products in 16 bits, which 8-bit weights overflow.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_CALIBRATION[calibration],
            # One photo at a time, for every method whatever the name says: all together, their activations fill the
            # memory, and photos of different sizes are an error.
            extra_options={"CalibStridedMinMax": 1, "OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        quantized = onnx.load(folder / "int8.onnx")
    sizes_of_integers(quantized)
    share_scales(quantized, folded)
    if rounding == "feedback":
        round_weights(quantized, folded, images)
    return quantized
