"""The OpenAPI document, and schemathesis' requests made from it: answers as described, never a 5xx."""

import io

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def photo(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 24), "teal").save(file, file_format)
    return file.getvalue()


for kind in ("jpeg", "png", "webp", "bmp", "tiff", "gif"):
    schemathesis.openapi.media_type(f"image/{kind}", st.sampled_from([photo(kind.upper())]) | st.binary(max_size=200))


@pytest.fixture(scope="module")
def document(server):
    answer = httpx.get(f"{server.url}/openapi.json")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.fixture(scope="module")
def described(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE], ids=str)
def test_requests_made_from_the_document(described, server, mode):
    tried = 0
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is schemathesis.GenerationMode.NEGATIVE and not operation.path.endswith("/infer"):
            continue  # no schema tells bytes of a photo from others

        @given(operation.as_strategy(generation_mode=mode))
        @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        def validate(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        validate()
        tried += 1
    assert tried >= 2
    assert "Traceback" not in server.log.read_text()


def test_every_address_is_described(document, exported):
    from tfwsss_onnx import Segmenter
    from tfwsss_onnx.http_service import create_app

    app = create_app(Segmenter(exported("local"), "cpu"))
    assert {route.path for route in app.routes} == set(document["paths"])


def test_what_the_service_answers_is_what_it_says(server, document):
    """The description is not so wide that anything fits."""
    import jsonschema_rs

    answers = {"Model": httpx.get(f"{server.url}/v2/models/segmenter"), "Server": httpx.get(f"{server.url}/v2"), "Error": httpx.post(f"{server.url}/segment", content=b"x"), "Segmentation": httpx.post(f"{server.url}/segment?output=json", content=photo("PNG"))}
    for name, answer in answers.items():
        root = {**document, "$ref": f"#/components/schemas/{name}"}
        validator = jsonschema_rs.validator_for(root)
        assert validator.is_valid(answer.json()) and not validator.is_valid({}), name
