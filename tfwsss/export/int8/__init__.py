"""8-bit integers in an ONNX segmenter: what is quantised, in which form, and how its weights are rounded."""

from tfwsss.export.int8.quantization import ROUNDINGS, to_int8

__all__ = ["ROUNDINGS", "to_int8"]
