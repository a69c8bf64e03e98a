"""Exported files of small networks: one that looks a few pixels far, one that looks at the whole photo."""

import keras
import numpy as np
import pytest

from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH

CLASSES = ("cat", "dog", "horse")


def network(pool: bool):
    """keras.Model of stride 8, reach about 50 pixels; with `pool` also global average pooling."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((None, None, 3))
    x = inputs
    for filters in (8, 8, 8):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    x = keras.layers.ZeroPadding2D(2)(x)
    x = keras.layers.Conv2D(8, 3, dilation_rate=2, activation="relu")(x)
    if pool:
        x = x + keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, keras.layers.Conv2D(len(CLASSES) + 1, 1)(x))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """exported(name) -> path of "local", "scores" (both without pooling), "pooled"."""
    folder = tmp_path_factory.mktemp("exported")
    arguments = {"class_names": CLASSES, "normalization": TORCH}
    local, pooled = network(pool=False), network(pool=True)
    export_onnx(local, folder / "local.onnx", **arguments)
    export_onnx(local, folder / "scores.onnx", outputs=("scores",), **arguments)
    export_onnx(pooled, folder / "pooled.onnx", **arguments)
    return lambda name: folder / f"{name}.onnx"


@pytest.fixture(scope="session")
def photo():
    """photo(height, width, seed) -> uint8 [height, width, 3], smooth and coloured."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = [sum(np.sin(rng.uniform(0.02, 0.4) * y + rng.uniform(0.02, 0.4) * x + rng.uniform(0, 6)) for _ in range(4)) for _ in range(3)]
        return np.uint8(np.clip(127 + 45 * np.stack(waves, axis=2), 0, 255))

    return draw
