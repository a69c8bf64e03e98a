"""Export of a trained segmenter: SavedModel for TensorFlow Serving, ONNX for everything else, .tflite for LiteRT, and the checks.

There are more files here than in other folders: each artefact, check and rewriting of the graph has its own.
"""

from tfwsss.export.accuracy import check_accuracy
from tfwsss.export.inference import Inference
from tfwsss.export.onnx import add_metadata, export_onnx
from tfwsss.export.parity import ParityCheck, check_parity
from tfwsss.export.saved_model import export_saved_model
from tfwsss.export.tflite import export_tflite

__all__ = ["Inference", "ParityCheck", "add_metadata", "check_accuracy", "check_parity", "export_onnx", "export_saved_model", "export_tflite"]
