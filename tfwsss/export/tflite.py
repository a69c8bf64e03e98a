"""A segmenter as a .tflite file for LiteRT (TensorFlow Lite), on phones and boards: one photo of a fixed size in, its mask out."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import tensorflow as tf

from tfwsss.errors import ExportError
from tfwsss.export.inference import Inference
from tfwsss.export.metadata import describe
from tfwsss.normalization import Normalization
from tfwsss.storage.atomic import atomic_path

METADATA = "metadata.json"


def export_tflite(model, path, *, size: tuple[int, int], class_names, normalization: Normalization, scales=(1.0,), flip: bool = False, metadata: dict | None = None) -> Path:
    """Write a .tflite file of float32 weights and LiteRT's built-in operations only.

    Signature `serving_default`: input `images` uint8 [1, H, W, 3] RGB, output `mask` uint8 [1, H, W] (0 background, k+1 class k).
    What `tfwsss.export.metadata.describe` lists, and `size`, is the file metadata.json of a ZIP archive at the end of the file,
    where TensorFlow Lite's metadata keeps associated files; runtimes do not read that far.

    The size is fixed because LiteRT plans its memory, and its delegates compile, for one; an interpreter that is resized
    would keep the resizing that was computed for this size.

    Args:
        model, class_names, normalization, scales, flip, metadata: see `export_saved_model`.
        path: the file to write; it appears complete or not at all.
        size: height and width, H and W.

    Raises:
        ExportError: an argument does not fit, or the converter does not know an operation.
    """
    height, width = size
    inference = Inference(model, normalization, scales=scales, flip=flip)
    described = describe(inference, class_names, (metadata or {}) | {"size": [height, width]})

    @tf.function(input_signature=[tf.TensorSpec([1, height, width, 3], tf.uint8, name="images")], autograph=False)
    def serving_default(images):
        return {"mask": inference.mask(images)}

    function = serving_default.get_concrete_function()
    module = tf.Module()
    module.weights = list(function.graph.variables)
    with tempfile.TemporaryDirectory() as folder:
        # From a SavedModel, of which the converter folds the variables; those of a function it would leave empty.
        tf.saved_model.save(module, folder, signatures={"serving_default": function})
        try:
            converted = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"]).convert()
        except Exception as error:  # of a type that is not public
            raise ExportError(f"tflite: TensorFlow's converter failed: {(str(error) or type(error).__name__).strip().splitlines()[0]}") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(converted)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA, json.dumps(described, indent=2, ensure_ascii=False) + "\n")
    return Path(path)
