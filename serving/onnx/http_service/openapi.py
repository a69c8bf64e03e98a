"""What the service says of itself at /openapi.json (OpenAPI 3.1)."""

from __future__ import annotations

from .. import __version__
from .service import Service

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "image/gif", "application/octet-stream")
_TEXT, _BYTES, _POSITIVE = {"type": "string"}, {"type": "string", "format": "binary"}, {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
_PARAMETERS = {"type": "object", "not": {"anyOf": [{"required": ["shared_memory_region"]}, {"required": ["classification"]}]}}
_FAILURES = {
    "400": "what was sent cannot be read, or breaks the protocol",
    "404": "no model of this name or version",
    "408": "the body did not arrive in time",
    "413": "the body, a photo, or the memory that it needs is above a limit",
    "415": "a body of a kind that is not read",
    "500": "a fault of the service",
    "503": "not ready yet, or no room; try again later",
    "504": "the masks were not ready in time",
}


def document(service: Service) -> dict:
    """The description of this service, as JSON values."""
    name, version = service.settings.name, service.settings.version
    model, its_version = _in_path("model", name), _in_path("version", version)
    paths = {
        "/": {"get": _get("A page that shows what the model finds in a photo", {"text/html": {"schema": _TEXT}})},
        "/openapi.json": {"get": _get("This document", _json({"type": "object"}))},
        "/metrics": {"get": _get("Metrics for Prometheus", {"text/plain": {"schema": _TEXT}})},
        "/segment": {"post": _segment()},
        "/v2": {"get": _get("Name and version of the server", _json(_ref("Server")))},
        "/v2/health/live": {"get": _get("Whether the server runs", _json(_object({"live": {"type": "boolean"}})))},
        "/v2/health/ready": {"get": _get("Whether the model is ready", _json(_object({"ready": {"type": "boolean"}})), "503")},
    }
    for prefix, parameters in (("/v2/models/{model}", [model]), ("/v2/models/{model}/versions/{version}", [model, its_version])):
        ready = _object({"name": _TEXT, "ready": {"type": "boolean"}})
        paths[prefix] = {"parameters": parameters, "get": _get("Inputs and outputs of the model", _json(_ref("Model")), "404")}
        paths[prefix + "/ready"] = {"parameters": parameters, "get": _get("Whether the model is ready", _json(ready), "404", "503")}
        paths[prefix + "/infer"] = {"parameters": parameters, "post": _infer()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "tfwsss segmentation service", "version": __version__, "description": "Photos in, masks out: POST /segment, and the Open Inference Protocol V2 below /v2."},
        "paths": paths,
        "components": {"schemas": _schemas(service), "responses": {status: {"description": text, "content": _json(_ref("Error"))} for status, text in _FAILURES.items()}},
    }


def _schemas(service: Service) -> dict:
    tensor = {"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}}
    images = _input("images", "UINT8", {"type": "array", "items": _POSITIVE, "minItems": 4, "maxItems": 4})
    files = _input("image_bytes", "BYTES", {"type": "array", "items": {**_POSITIVE, "maximum": service.settings.max_images}, "minItems": 1, "maxItems": 1})
    output = {"type": "object", "required": ["name"], "properties": {"name": {"enum": ["mask", "mask_png"]}, "parameters": _PARAMETERS}}
    answer = {**tensor, "data": {"type": "array"}, "parameters": {"type": "object"}}
    found = _object({"label": {"type": "integer"}, "name": _TEXT, "color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"}, "share": {"type": "number", "minimum": 0, "maximum": 1}})
    return {
        "Error": _object({"error": {"type": "string", "minLength": 1}}),
        "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
        "Model": _object({"name": _TEXT, "versions": {"type": "array", "items": _TEXT}, "platform": _TEXT, **{key: {"type": "array", "items": _object(tensor)} for key in ("inputs", "outputs")}}),
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": _TEXT,
                "parameters": _PARAMETERS,
                "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"oneOf": [images, files]}},
                "outputs": {"type": "array", "items": output},
            },
        },
        "InferResponse": _object({"model_name": _TEXT, "model_version": _TEXT, "outputs": {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"], "properties": answer}}}),
        "Segmentation": _object(
            {"width": _POSITIVE, "height": _POSITIVE, "classes": {"type": "array", "items": found}, "mask_png": {"type": "string", "contentEncoding": "base64"}, "timings_ms": {"type": "object"}, "batch": _POSITIVE}
        ),
    }


def _input(name: str, datatype: str, shape: dict) -> dict:
    properties = {"name": {"const": name}, "datatype": {"const": datatype}, "shape": shape, "data": {"type": "array"}, "parameters": _PARAMETERS}
    return {"type": "object", "required": ["name", "datatype", "shape"], "properties": properties}


def _segment() -> dict:
    query = [
        {"name": "output", "in": "query", "description": "mask: an indexed PNG; overlay: the photo with the classes' colours over it", "schema": {"enum": ["mask", "overlay", "json"]}},
        {"name": "opacity", "in": "query", "description": "of the overlay's colours", "schema": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5}},
    ]
    form = {"schema": {"type": "object", "required": ["photo"], "properties": {"photo": _BYTES}}}
    content = {**{kind: {"schema": _BYTES} for kind in _IMAGE_TYPES}, "multipart/form-data": form}
    answer = {"image/png": {"schema": _BYTES}, "image/jpeg": {"schema": _BYTES}, **_json(_ref("Segmentation"))}
    return {"summary": "Segment a photo", "parameters": query, "requestBody": {"required": True, "content": content}, "responses": _responses(answer, "400", "408", "413", "415", "500", "503", "504")}


def _infer() -> dict:
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "length of the JSON where tensors in binary follow it",
        "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"},
    }
    content = {**_json(_ref("InferRequest")), "application/octet-stream": {"schema": _BYTES}}
    answer = {**_json(_ref("InferResponse")), "application/octet-stream": {"schema": _BYTES}}
    failures = ("400", "404", "408", "413", "415", "500", "503", "504")
    return {"summary": "Segment photos", "parameters": [header], "requestBody": {"required": True, "content": content}, "responses": _responses(answer, *failures)}


def _get(summary: str, content: dict, *failures: str) -> dict:
    found = _responses(content, *failures)
    if "503" in failures:  # the same facts, saying no
        found["503"] = {"description": "not ready yet", "content": content}
    return {"summary": summary, "responses": found}


def _responses(content: dict, *failures: str) -> dict:
    return {"200": {"description": "found", "content": content}, **{status: {"$ref": f"#/components/responses/{status}"} for status in failures}}


def _in_path(name: str, value: str) -> dict:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}, "example": value}


def _object(properties: dict) -> dict:
    return {"type": "object", "required": list(properties), "properties": properties}


def _json(schema: dict) -> dict:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}
