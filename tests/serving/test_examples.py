"""The Python examples of the pages about the ONNX runtime and the HTTP service, run whole."""

import pytest
from PIL import Image

from tests.markdown import examples, run_example


@pytest.fixture
def photos(tmp_path, photo):
    for number, name in enumerate(("photo.jpg", "one.jpg", "two.png")):
        Image.fromarray(photo(30 + number, 41, number)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("example", examples("tfwsss_onnx"), ids=str)
def test_of_the_runtime(photos, exported, example):
    (photos / "model.onnx").write_bytes(exported("local").read_bytes())
    run_example(example, photos)


@pytest.mark.parametrize("example", examples("tritonclient"), ids=str)
def test_of_the_service(photos, server, example):
    run_example(example, photos, {"127.0.0.1:8080": f"127.0.0.1:{server.port}"})
