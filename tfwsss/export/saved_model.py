"""A segmenter as a SavedModel that TensorFlow Serving loads: TensorFlow operations only, no Keras, no Python."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import tensorflow as tf

from tfwsss.errors import DataError, ExportError
from tfwsss.export.decode import decode_image
from tfwsss.export.inference import Inference
from tfwsss.export.metadata import FORMAT, describe
from tfwsss.export.photo_size import enlarged_masks, enlarged_scores, reduced_photos
from tfwsss.export.warmup import warmup_requests, write_warmup
from tfwsss.normalization import Normalization
from tfwsss.storage.atomic import atomic_folder, read_json

IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
IMAGE_BYTES = tf.TensorSpec([None], tf.string, name="image_bytes")


def require_replaceable(folder) -> None:
    """Refuse to write a version where there is anything but an earlier export of it.

    Raises:
        ExportError: the path is a link or a file, or the folder was not written by `export_saved_model`.
    """
    folder = Path(folder)
    if not folder.is_symlink() and not folder.exists():
        return
    try:
        described = None if folder.is_symlink() else read_json(folder / "assets/metadata.json")
    except (OSError, DataError):
        described = None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ExportError(f"{folder}: is there already and was not exported by tfwsss; move it away, or choose another version")


def _signatures(inference: Inference, max_megapixels: float, long_side: int | None) -> dict:
    def mask(images):
        found = inference.mask(reduced_photos(images, long_side))
        return found if long_side is None else enlarged_masks(found, images)

    @tf.function(input_signature=[IMAGES], autograph=False)
    def serving_default(images):
        return {"mask": mask(images)}

    @tf.function(input_signature=[IMAGES], autograph=False)
    def scores(images):
        found = inference.scores(reduced_photos(images, long_side))
        return {"scores": found if long_side is None else enlarged_scores(found, images)}

    @tf.function(input_signature=[IMAGE_BYTES], autograph=False)
    def serve_bytes(image_bytes):
        def segment(data):
            return tf.io.encode_png(mask(decode_image(data, max_megapixels)[tf.newaxis])[0, :, :, tf.newaxis])

        # One at a time: photos are of any size, and the memory of a request must not grow with its length.
        return {"mask_png_bytes": tf.map_fn(segment, image_bytes, fn_output_signature=tf.string, parallel_iterations=1)}

    functions = {"serving_default": serving_default, "scores": scores, "serve_bytes": serve_bytes}
    return {name: function.get_concrete_function() for name, function in functions.items()}  # traced once; saving would trace anew


def export_saved_model(
    model,
    path,
    *,
    class_names,
    normalization: Normalization,
    version: int = 1,
    scales=(1.0,),
    flip: bool = False,
    max_megapixels: float = 50.0,
    long_side: int | None = None,
    warmup_photos=(),
    metadata: dict | None = None,
) -> Path:
    """Write `path`/<version>/, a SavedModel with three signatures.

    * `serving_default`: `images` uint8 [B, H, W, 3] RGB -> `mask` uint8 [B, H, W] (0 background, k+1 class k).
    * `scores`: `images` -> `scores` float32 [B, H, W, num_classes + 1], softmax over the last axis.
    * `serve_bytes`: `image_bytes` string [B], JPEG or PNG files, each of its own size -> `mask_png_bytes` string [B],
      one grey 8-bit PNG per file whose grey levels are the labels. Photos are turned upright by their EXIF (or else XMP)
      orientation first, so the mask has the size of the upright photo. Pixels are those that training sees, except that
      CMYK photos may differ by one grey level. A file that is neither JPEG nor PNG, is damaged, or whose header announces
      more than `max_megapixels` fails the whole request with INVALID_ARGUMENT before it is decoded.

    `assets/metadata.json` holds what `tfwsss.export.metadata.describe` lists. Batch, height and width are free.
    `assets.extra/tf_serving_warmup_requests` holds requests made of `warmup_photos`, which TensorFlow Serving runs while loading.

    Args:
        model: segmenter, keras.Model (normalised float32 [B, H, W, 3] -> logits [B, h, w, num_classes + 1]).
        path: folder of all versions of this model, the `base_path` of TensorFlow Serving.
        class_names: num_classes names, without background.
        normalization: what the segmenter was trained with; it becomes part of the graph.
        version: positive; an export that is there already is replaced.
        scales, flip: test-time variants whose scores are averaged (see `Inference`).
        long_side: inside the graph, photos with a longer side are made smaller, and their masks and scores enlarged; None: none is.
        warmup_photos: bytes of JPEG or PNG files, typical of what clients will send; without any the file is not written.
        metadata: more JSON entries for metadata.json.

    Returns:
        The version's folder. It appears complete or not at all.

    Raises:
        ExportError: an argument does not fit the model, a warm-up photo cannot be read, or the version's folder holds something else.
    """
    if not isinstance(version, int) or version < 1:
        raise ExportError(f"version: found {version!r}, expected a positive integer")
    if max_megapixels <= 0:
        raise ExportError(f"max_megapixels: found {max_megapixels!r}, expected a positive number")
    target = Path(path) / str(version)
    require_replaceable(target)
    inference = Inference(model, normalization, scales=scales, flip=flip)
    facts = (metadata or {}) | {"max_megapixels": max_megapixels, "long_side": long_side, "exif_orientation": "applied by serve_bytes, that of XMP where EXIF states none"}
    text = json.dumps(describe(inference, class_names, facts), indent=2, ensure_ascii=False)
    signatures = _signatures(inference, max_megapixels, long_side)
    requests = warmup_requests(warmup_photos, signatures, lambda data: decode_image(data, max_megapixels)) if warmup_photos else []
    # Tracking the variables alone, not the Keras model, keeps Keras' own functions and configuration out of the file.
    module = tf.Module()
    module.weights = list({id(v): v for f in signatures.values() for v in f.graph.variables}.values())
    with tempfile.TemporaryDirectory() as folder, atomic_folder(target, replace=True) as temporary:
        asset = Path(folder) / "metadata.json"
        asset.write_text(text + "\n", encoding="utf-8")
        module.metadata = tf.saved_model.Asset(str(asset))
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        if requests:
            write_warmup(temporary, requests)
    return target
