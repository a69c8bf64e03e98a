"""The Python examples of the pages about the client of TensorFlow Serving, run whole."""

import pytest

from tests.markdown import examples, run_example
from tests.tf_serving.conftest import encoded


@pytest.mark.parametrize("example", examples("tfwsss_tf_serving"), ids=str)
def test_of_the_client(tmp_path, photo, server, started, example):
    for name, file_format in (("photo.jpg", "JPEG"), ("one.jpg", "JPEG"), ("two.png", "PNG")):
        (tmp_path / name).write_bytes(encoded(photo(30, 41), file_format))
    _, grpc, rest = started
    addresses = {"127.0.0.1:8500": grpc, "http://127.0.0.1:8501": rest}
    run_example(example, tmp_path, {shown: real for shown, real in addresses.items() if shown in example.text})
    assert server.calls
