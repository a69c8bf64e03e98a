"""The first request to a freshly loaded SavedModel beside the steady ones, without and with its warm-up requests.

    python benchmarks/warmup.py runs/NAME/export/saved_model/1 photo.jpg

Each row is a fresh process on the CPU that loads the model, runs its warm-up requests or not, as TensorFlow Serving does while
loading, and then sends the photo to `serve_bytes` again and again. Prints a Markdown table.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(saved_model: str, photo: bytes, warm: bool, requests: int, answer) -> None:
    """Send (seconds of the warm-up, of each request) through the connection `answer`."""
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    from tfwsss.export.warmup import WARMUP_FILE

    signatures = tf.saved_model.load(saved_model).signatures
    begin = time.perf_counter()
    for record in tf.data.TFRecordDataset(str(Path(saved_model) / WARMUP_FILE)) if warm else ():
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        function = signatures[request.model_spec.signature_name]
        specs = function.structured_input_signature[1]
        function(**{name: tf.constant(tf.make_ndarray(value), specs[name].dtype) for name, value in request.inputs.items()})
    seconds = [time.perf_counter() - begin]
    for _ in range(requests):
        begin = time.perf_counter()
        signatures["serve_bytes"](image_bytes=tf.constant([photo]))["mask_png_bytes"].numpy()
        seconds.append(time.perf_counter() - begin)
    answer.send(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("saved_model", help="a version's folder")
    parser.add_argument("photo", type=Path, help="JPEG or PNG, not one of the warm-up requests")
    parser.add_argument("--requests", type=int, default=30)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("| | warm-up | first request | median of the others | ratio |\n|---|---|---|---|---|")
    for warm in (False, True):
        here, there = context.Pipe()
        process = context.Process(target=measure, args=(arguments.saved_model, arguments.photo.read_bytes(), warm, arguments.requests, there))
        process.start()
        there.close()  # so that a process that fails ends the wait for its answer
        warmup, first, *others = here.recv()
        process.join()
        median = statistics.median(others)
        print(f"| {'warmed' if warm else 'cold'} | {warmup:.2f} s | {first * 1000:.0f} ms | {median * 1000:.0f} ms | {first / median:.2f} |")


if __name__ == "__main__":
    main()
