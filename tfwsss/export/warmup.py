"""Requests that TensorFlow Serving runs while it loads a SavedModel, so that the first real one is not the slow one.

They lie in `assets.extra/tf_serving_warmup_requests`, a TFRecord file of PredictionLog messages. A request that fails there
makes the server refuse the whole version: each is run against the signatures before it is written.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfwsss.errors import ExportError

WARMUP_FILE = Path("assets.extra/tf_serving_warmup_requests")
MAX_REQUESTS = 1000  # TensorFlow Serving refuses more


def warmup_requests(photos, signatures: dict, decode) -> list[tuple[str, dict]]:
    """Requests of the kinds that clients send, made of encoded photos and tried out.

    Args:
        photos: bytes of JPEG or PNG files.
        signatures: the export's functions by name.
        decode: scalar string tensor -> uint8 [H, W, 3], as `serve_bytes` does it.

    Returns:
        (signature, inputs): for every photo one file to `serve_bytes` and one image to `serving_default`; the first photo
        also to `scores`, and all files together to `serve_bytes`.

    Raises:
        ExportError: a photo cannot be read by the exported graph, or there are too many.
    """
    count = 2 * len(photos) + 2  # one to `scores`, one with all files
    if count > MAX_REQUESTS:
        raise ExportError(f"warmup_photos: {len(photos)} photos make {count} requests, TensorFlow Serving takes at most {MAX_REQUESTS}")
    requests: list[tuple[str, dict]] = []
    for index, photo in enumerate(photos):
        try:
            image = decode(tf.constant(photo))[tf.newaxis]
        except tf.errors.OpError as error:
            raise ExportError(f"warmup_photos[{index}]: serve_bytes cannot read it: {error.message}") from None
        requests.append(("serve_bytes", {"image_bytes": tf.constant([photo])}))
        requests.append(("serving_default", {"images": image}))
        if index == 0:
            requests.append(("scores", {"images": image}))
    if len(photos) > 1:
        requests.append(("serve_bytes", {"image_bytes": tf.constant(list(photos))}))
    for signature, inputs in requests:
        signatures[signature](**inputs)
    return requests


def write_warmup(saved_model, requests) -> Path:
    """Write the requests into a SavedModel's folder (see `warmup_requests`); returns the file."""
    # Imported here because only exporting needs these messages.
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    path = Path(saved_model) / WARMUP_FILE
    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
            writer.write(log.SerializeToString(deterministic=True))
    return path
