"""CAMs, random walk and a training step in TensorFlow, for benchmarks/gpu.sh; prints rows as JSON.

    python benchmarks/gpu/training.py --device cuda

With `--device cuda` and no GPU that TensorFlow can use it ends with an error: nothing is measured on the processor instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from tfwsss.affinity import pair_offsets
from tfwsss.cam import maps_of_scale, rectified, scaled_photos
from tfwsss.data.mirrors import mirrors
from tfwsss.models import build_classifier, build_segmenter, class_maps, normalization
from tfwsss.randomwalk import random_walk

SCALES = (1.0, 0.5, 1.5)


def median_seconds(call: Callable[[], object], times: int) -> float:
    call()
    call()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def cams(backbone: str, width: float, shape: tuple[int, int], batch: int) -> Callable[[], object]:
    """CAMs of a batch of photos at three scales, mirrored too."""
    network, normalize = class_maps(build_classifier(backbone, 20, width=width, output_stride=16)), normalization(backbone)
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    maps = tf.function(lambda images: rectified(network(normalize(tf.cast(images, tf.float32)), training=False), "relu"), input_signature=signature, autograph=False)
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    scales = [np.stack([one] * batch) for one in scaled_photos(photo, SCALES)]
    return lambda: [maps_of_scale(maps, photos, images=mirrors(True, "upright")) for photos in scales]


def walk(height: int, width: int) -> Callable[[], object]:
    """A walk of three channels."""
    rng = np.random.default_rng(0)
    affinity = tf.constant(rng.random((1, len(pair_offsets(5)), height, width)), tf.float32)
    scores = tf.constant(rng.random((1, height, width, 3)), tf.float32)
    return lambda: random_walk(affinity, scores).numpy()


def training_step(backbone: str, width: float, crop: int, batch: int, precision: str) -> Callable[[], object]:
    """Forward, backward and update of a segmenter, compiled by tf.function."""
    keras.mixed_precision.set_global_policy(precision)
    model = build_segmenter(backbone, 20, width=width, output_stride=16, batch_norm="train", freeze=False)
    keras.mixed_precision.set_global_policy("float32")
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    images = tf.random.stateless_normal((batch, crop, crop, 3), [0, 1])
    labels = tf.random.stateless_uniform((batch, crop, crop), [0, 2], 0, 21, tf.int32)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = tf.image.resize(tf.cast(model(images, training=True), tf.float32), (crop, crop))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
        return loss

    return lambda: step().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        raise SystemExit("TensorFlow finds no GPU it can use")
    keras.utils.set_random_seed(0)
    backbone, width = ("mobilenet", 0.25) if arguments.small else ("mobilenetv2", 1.0)
    shape, batch, crop, times = ((64, 96), 1, 64, 1) if arguments.small else ((375, 500), 8, 320, 10)
    name = f"{backbone}, width {width:g}"
    rows = []
    taken = median_seconds(cams(backbone, width, shape, batch), times) / batch
    rows.append((f"TensorFlow: CAMs, {name}", f"photos of {shape[0]}x{shape[1]}, 3 scales, mirrored, batch {batch}", f"{1 / taken:.1f} photos/s"))
    grid = [-(-side // 8) for side in shape]
    taken = median_seconds(walk(*grid), times)
    rows.append((f"TensorFlow: walk, {grid[0]}x{grid[1]} cells, 3 channels", "256 steps", f"{1e3 * taken:.1f} ms"))
    for precision in ("float32",) if arguments.small else ("float32", "mixed_bfloat16"):
        taken = median_seconds(training_step(backbone, width, crop, 2 * batch, precision), times)
        rows.append((f"TensorFlow: training step of a segmenter, {name}", f"{2 * batch} crops of {crop}, {precision}", f"{1e3 * taken:.0f} ms, {2 * batch / taken:.0f} crops/s"))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
