"""Segmentation with an exported ONNX file: numpy and onnxruntime, and Pillow for files. Nothing of TensorFlow."""

from .errors import DeviceError, ImageError, ModelError, SegmenterError
from .overlay import overlay
from .segmenter import Segmenter

__all__ = ["DeviceError", "ImageError", "ModelError", "Segmenter", "SegmenterError", "overlay"]
