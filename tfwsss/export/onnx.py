"""A segmenter as one ONNX file that needs nothing of TensorFlow: uint8 photos in, masks (or scores) out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import onnx

from tfwsss.errors import ExportError
from tfwsss.export.inference import Inference
from tfwsss.export.metadata import describe
from tfwsss.export.receptive_field import receptive_field
from tfwsss.normalization import Normalization
from tfwsss.storage.atomic import atomic_path

OUTPUTS = ("mask", "scores")
_AXES = ("batch", "height", "width")


def _convert(inference: Inference, outputs, opset: int, channels_last: bool) -> onnx.ModelProto:
    # Imported here because it takes a second and prints; most users of this package export a SavedModel or nothing.
    from tfwsss.export.frugal_converter import converted

    compute = {"mask": inference.mask, "scores": inference.scores}
    return converted(lambda images: {name: compute[name](images) for name in outputs}, opset=opset, channels_last=channels_last)


def _name_axes(value: onnx.ValueInfoProto, last: int | None) -> None:
    dimensions = value.type.tensor_type.shape.dim
    for dimension, name in zip(dimensions, _AXES, strict=False):
        dimension.dim_param = name
    if last is not None:
        dimensions[3].dim_value = last


def _finish(model: onnx.ModelProto, outputs, num_labels: int) -> None:
    """Name the free axes and drop what the converters leave behind."""
    graph = model.graph
    found = ([value.name for value in graph.input], sorted(value.name for value in graph.output))
    if found != (["images"], sorted(outputs)):
        raise ExportError(f"ONNX inputs and outputs: found {found}, expected (['images'], {sorted(outputs)})")
    graph.name = "tfwsss_segmenter"
    del graph.value_info[:]  # intermediate shapes with anonymous dimensions; any runtime infers them
    used = {node.domain for node in graph.node} | {""}
    for unused in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(unused)
    _name_axes(graph.input[0], 3)
    for value in graph.output:
        _name_axes(value, num_labels if value.name == "scores" else None)


def _check(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX checker: {error}") from None


def _as_text(properties: dict) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in properties.items()}


def add_metadata(path, entries: dict) -> None:
    """Write into an exported ONNX file what became known after its export, such as its mIoU; the graph stays as it is.

    Raises:
        ExportError: the file says something about one of these entries already.
    """
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if set(entries) & set(properties):
        raise ExportError(f"{path}: metadata {sorted(set(entries) & set(properties))} are there already")
    onnx.helper.set_model_props(model, properties | _as_text(entries))
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def export_onnx(
    model,
    path,
    *,
    class_names,
    normalization: Normalization,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    outputs: tuple[str, ...] = ("mask",),
    opset: int = 17,
    scales=(1.0,),
    flip: bool = False,
    long_side: int | None = None,
    calibration_images=None,
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax",
    rounding: Literal["feedback", "nearest"] = "feedback",
    metadata: dict | None = None,
) -> Path:
    """Write an ONNX file with free, named axes.

    Input `images` uint8 [batch, height, width, 3] RGB. Outputs, as chosen: `mask` uint8 [batch, height, width]
    (0 background, k+1 class k); `scores` float32 [batch, height, width, num_classes + 1] (softmax).

    The file's metadata_props hold what `tfwsss.export.metadata.describe` lists, plus `precision`, `opset`, `outputs`, and
    `receptive_field` (what a tiling runtime must know); every value is a string, non-string values as JSON.

    Args:
        model, class_names, normalization, scales, flip, metadata: see `export_saved_model`.
        path: the file to write; it appears complete or not at all.
        long_side: told in the metadata: photos with a longer side are to be made smaller by who runs the file, as `tfwsss_onnx` does.
        precision: fp32; fp16: weights and arithmetic in half precision except resizing, softmax and argmax; int8: static
            quantisation (QDQ) with one weight scale per output channel and class scores in float32.
        calibration_images: int8 only: training photos, uint8 [H, W, 3] each, that fix the activation ranges and the rounding.
        calibration: int8 only: how ranges follow from the photos' activations.
        rounding: int8 only: feedback: weights are rounded such that a layer's outputs on the photos move least
            (`tfwsss.export.int8.weight_rounding`); nearest: each for itself, which takes no time.
        opset: ONNX operator set, 13 or later.

    Raises:
        ExportError: an argument does not fit, or the result does not pass the ONNX checker and shape inference.
    """
    outputs = tuple(outputs)
    if not outputs or not set(outputs) <= set(OUTPUTS) or len(set(outputs)) != len(outputs):
        raise ExportError(f"outputs: found {outputs!r}, expected one or both of {OUTPUTS}")
    if precision not in ("fp32", "fp16", "int8"):
        raise ExportError(f"precision: found {precision!r}, expected fp32, fp16 or int8")
    if precision == "int8" and not calibration_images:
        raise ExportError("calibration_images: int8 needs training photos, found none")
    if opset < 13:
        raise ExportError(f"opset: found {opset}, expected 13 or later")
    inference = Inference(model, normalization, scales=scales, flip=flip)
    properties = describe(inference, class_names, (metadata or {}) | {"long_side": long_side})
    exported = _convert(inference, outputs, opset, channels_last=precision == "int8")
    _finish(exported, outputs, inference.num_labels)
    facts = {"precision": precision, "opset": opset, "outputs": list(outputs), "receptive_field": receptive_field(exported, inference.is_plain)}
    properties |= facts
    # Imported here because the tools for it bring more packages than exporting fp32 needs.
    if precision == "fp16":
        from tfwsss.export.float16 import to_float16

        exported = to_float16(exported)
    elif precision == "int8":
        from tfwsss.export.int8 import to_int8

        exported = to_int8(exported, calibration_images, calibration, rounding)
        properties["calibration"] = {"method": calibration, "images": len(calibration_images), "rounding": rounding}
    if precision != "fp32":
        _finish(exported, outputs, inference.num_labels)
    exported.producer_name, exported.producer_version = "tfwsss", properties["versions"]["tfwsss"]
    onnx.helper.set_model_props(exported, _as_text(properties))
    _check(exported)
    with atomic_path(path) as temporary:
        temporary.write_bytes(exported.SerializeToString(deterministic=True))
    return Path(path)
