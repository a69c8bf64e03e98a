"""Segmenters of the real builders, small and with random weights that give every label somewhere."""

import keras
import numpy as np
import pytest

from tfwsss.models import build_segmenter, normalization
from tfwsss.weights import save_weights

CLASSES = ("cat", "dog", "horse")
BUILDS = {
    "resnet38": {"width": 1 / 16},
    "mobilenetv2": {"width": 0.35, "output_stride": 16, "batch_norm": "train", "freeze": False},
    "vgg16": {"width": 1 / 16, "head": "atrous"},
    "resnet50v15": {"width": 1 / 8, "output_stride": 16},
}


class Made:
    """A segmenter, its weights file and what exporting it needs."""

    def __init__(self, backbone: str, folder, **arguments):
        keras.utils.set_random_seed(7)
        self.model = build_segmenter(backbone, len(CLASSES), **arguments)
        self._spread_scores(normalization(backbone))
        self.arguments = {"class_names": CLASSES, "normalization": normalization(backbone)}
        self.weights = folder / "weights.safetensors"
        save_weights(self.model, self.weights)

    def _spread_scores(self, normalize):
        """Scale the last convolution until labels differ as in a trained network, and every label wins somewhere."""
        score = self.model.get_layer("score")
        image = normalize(np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8).repeat(2, 1).repeat(2, 2))
        logits = self.model(image).numpy()
        kernel, bias = score.get_weights()
        spread = 3 / logits.std(axis=(0, 1, 2))
        score.set_weights([kernel * spread, bias * spread - logits.mean(axis=(0, 1, 2)) * spread])


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """made(backbone) -> Made; each is built once."""
    cache: dict[str, Made] = {}

    def make(backbone: str) -> Made:
        if backbone not in cache:
            cache[backbone] = Made(backbone, tmp_path_factory.mktemp(backbone), **BUILDS[backbone])
        return cache[backbone]

    return make


@pytest.fixture(scope="session")
def photo():
    """photo(height, width, seed) -> uint8 [height, width, 3], smooth and coloured."""

    def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = [sum(np.sin(rng.uniform(0.02, 0.4) * y + rng.uniform(0.02, 0.4) * x + rng.uniform(0, 6)) for _ in range(4)) for _ in range(3)]
        return np.uint8(np.clip(127 + 45 * np.stack(waves, axis=2), 0, 255))

    return draw


class TinyNetwork:
    """A convolution of stride 4 whose answer NumPy can give as well, for tests that are not about the network."""

    labels = 4

    def __init__(self):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((None, None, 3))
        x = keras.layers.ZeroPadding2D(1)(inputs)
        x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
        self.model = keras.Model(inputs, keras.layers.Conv2D(self.labels, 1)(x))


@pytest.fixture(scope="session")
def tiny_model():
    """keras.Model: [B, H, W, 3] -> logits [B, ceil(H / 4), ceil(W / 4), 4]."""
    return TinyNetwork().model
