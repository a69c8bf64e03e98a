"""Segmentation with an exported ONNX file: numpy and onnxruntime, and Pillow for files. Nothing of TensorFlow."""

from .cancellation import Cancellation
from .crf import compile_crf, dense_crf
from .errors import Cancelled, DependencyError, DeviceError, ImageError, ImageSizeError, ModelError, SegmenterError
from .mask_png import mask_png
from .overlay import overlay
from .segmenter import Segmenter

__version__ = "0.1.0"

__all__ = [
    "Cancellation",
    "Cancelled",
    "DependencyError",
    "DeviceError",
    "ImageError",
    "ImageSizeError",
    "ModelError",
    "Segmenter",
    "SegmenterError",
    "compile_crf",
    "dense_crf",
    "mask_png",
    "overlay",
]
