"""The bundle's model repository of a small network, and Triton running it."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import CLASSES, network
from tests.triton import server
from tfwsss.config.files import parse_config
from tfwsss.export import export_onnx
from tfwsss.normalization import TORCH
from tfwsss_onnx import Segmenter
from tfwsss_pipelines.deployment.exported import read_exported
from tfwsss_pipelines.deployment.triton import write_triton

MEGAPIXELS = 1.0


def config(version: int = 1, **serving):
    return parse_config({"data": {"format": "scenes", "max_megapixels": MEGAPIXELS}, "export": {"version": version}, "serving": serving})


def encoded(image: np.ndarray, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """exported(pool) -> path of an ONNX file of a network with or without global pooling."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def make(pool: bool = False):
        if pool not in made:
            made[pool] = export_onnx(network(pool), folder / f"{pool}.onnx", class_names=CLASSES, normalization=TORCH)
        return made[pool]

    return make


@pytest.fixture(scope="session")
def bundle(exported, tmp_path_factory):
    """The folder that `write_triton` has written for version 1."""
    folder = tmp_path_factory.mktemp("bundle") / "triton"
    write_triton(config(), read_exported(exported()), [1], folder)
    return folder


@pytest.fixture(scope="session")
def photos():
    """[(bytes of a file, of several formats and sizes)]; some share a size."""
    rng = np.random.default_rng(4)

    def draw(height: int, width: int) -> np.ndarray:
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))

    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        encoded(draw(61, 83), "JPEG"),
        encoded(draw(61, 83), "PNG"),
        encoded(draw(61, 83), "WEBP"),
        encoded(draw(83, 61), "JPEG", exif=turned),  # upright 61x83
        encoded(draw(40, 120), "GIF"),
        encoded(draw(97, 33), "BMP"),
    ]


@pytest.fixture(scope="session")
def expected(exported, photos):
    """The masks of the runtime in this process, one by one."""
    segmenter = Segmenter(exported(), device="cpu")
    return [segmenter(file) for file in photos]


@pytest.fixture(scope="session")
def triton(bundle, tmp_path_factory):
    """A running server: `http`, `grpc` ("127.0.0.1:port"), `log`, and the `bundle` that it polls each second."""
    if reason := server.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("server")
    with server.running(bundle / "model_repository", folder, "--model-control-mode=poll", "--repository-poll-secs=1") as addresses:
        yield SimpleNamespace(**addresses._asdict(), bundle=bundle)
