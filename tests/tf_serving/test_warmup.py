"""The warm-up requests inside a SavedModel, read as TensorFlow Serving reads them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tests.tf_serving.conftest import CLASSES, network, png
from tfwsss.errors import ExportError
from tfwsss.export import export_saved_model
from tfwsss.export.warmup import WARMUP_FILE
from tfwsss.normalization import TORCH


def requests(folder):
    for record in tf.data.TFRecordDataset(str(folder / WARMUP_FILE)):
        log = PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        yield request.model_spec.signature_name, {name: tf.make_ndarray(value) for name, value in request.inputs.items()}


def test_every_request_runs_on_the_loaded_model(versions):
    assert WARMUP_FILE.as_posix() == "assets.extra/tf_serving_warmup_requests"  # where TensorFlow Serving looks
    signatures = tf.saved_model.load(str(versions / "2")).signatures
    shapes = []
    for name, inputs in requests(versions / "2"):
        spec = signatures[name].structured_input_signature[1]
        output = next(iter(signatures[name](**{key: tf.constant(value, spec[key].dtype) for key, value in inputs.items()}).values()))
        shapes.append((name, *output.shape))
    assert shapes == [
        ("serve_bytes", 1),
        ("serving_default", 1, 30, 41),
        ("scores", 1, 30, 41, 4),
        ("serve_bytes", 1),
        ("serving_default", 1, 17, 23),
        ("serve_bytes", 2),
    ]


def test_the_photos_are_the_given_files(versions, photo):
    found = list(requests(versions / "1"))
    assert found[0][1]["image_bytes"].tolist() == [png(photo(30, 41))]
    np.testing.assert_array_equal(found[1][1]["images"][0], photo(30, 41))


def test_a_photo_that_the_graph_cannot_read_stops_the_export(tmp_path, photo):
    file = io.BytesIO()
    Image.fromarray(photo(8, 8)).save(file, "GIF")
    arguments = {"class_names": CLASSES, "normalization": TORCH}
    with pytest.raises(ExportError, match=r"warmup_photos\[1\]: .*JPEG or PNG"):
        export_saved_model(network(1), tmp_path, warmup_photos=[png(photo(8, 8)), file.getvalue()], **arguments)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ExportError, match="at most 1000"):
        export_saved_model(network(1), tmp_path, warmup_photos=[png(photo(8, 8))] * 500, **arguments)


def test_without_photos_there_is_no_file(tmp_path):
    folder = export_saved_model(network(1), tmp_path, class_names=CLASSES, normalization=TORCH)
    assert not (folder / "assets.extra").exists()
