"""Two versions of a tiny SavedModel, and a server that executes them behind both of TensorFlow Serving's interfaces."""

import io

import keras
import numpy as np
import pytest
from PIL import Image

from tests.tf_serving.model_server import ModelServer, running
from tfwsss.export import export_saved_model
from tfwsss.normalization import TORCH

CLASSES = ("cat", "dog", "horse")


def encoded(image: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format)
    return file.getvalue()


def png(image: np.ndarray) -> bytes:
    return encoded(image, "PNG")


def network(seed: int):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(len(CLASSES) + 1, 1)(x))


@pytest.fixture(scope="session")
def photo():
    """photo(height, width, seed) -> uint8 [height, width, 3]."""
    return lambda height, width, seed=0: np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="session")
def versions(tmp_path_factory, photo):
    """Folder with the versions 1 and 2 of a segmenter, of which both have warm-up requests."""
    folder = tmp_path_factory.mktemp("versions") / "export/saved_model"
    for version in (1, 2):
        photos = [png(photo(30, 41)), encoded(photo(17, 23, 1), "JPEG")]
        export_saved_model(network(version), folder, class_names=CLASSES, normalization=TORCH, version=version, max_megapixels=0.5, warmup_photos=photos)
    return folder


@pytest.fixture(scope="session")
def started(versions):
    """(ModelServer, gRPC address, REST address), running."""
    server = ModelServer(versions, "segmenter", {"stable": 1, "canary": 2})
    with running(server) as addresses:
        yield server, *addresses


@pytest.fixture
def server(started):
    """The running server without faults."""
    server = started[0]
    server.unavailable, server.delay, server.broken = 0, 0.0, None
    server.calls.clear()
    yield server
    server.unavailable, server.delay, server.broken = 0, 0.0, None
