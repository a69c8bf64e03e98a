"""The InferenceService against the fields and types of KServe's own package (fixtures/make_inference_service.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tfwsss.config.files import parse_config
from tfwsss.errors import ConfigError
from tfwsss_pipelines.deployment.kserve import FILE, service_name, write_kserve
from tfwsss_pipelines.deployment.triton import REPOSITORY, image_of

TYPES = json.loads((Path(__file__).parent / "fixtures/inference_service.json").read_text())


def serving(**settings):
    return parse_config({"data": {"format": "scenes"}, "serving": settings}).serving


def check(value, kind: str, place: str = "") -> None:
    """Raise AssertionError where a value is not of a type, or has a field that the type has not."""
    if listed := re.fullmatch(r"list\[(\w+)\]|List\[(\w+)\]", kind):
        assert isinstance(value, list), place
        for number, item in enumerate(value):
            check(item, listed[1] or listed[2], f"{place}[{number}]")
    elif mapped := re.fullmatch(r"[dD]ict[(\[]str, (\w+)[)\]]", kind):
        assert isinstance(value, dict), place
        for key, item in value.items():
            check(item, mapped[1], f"{place}.{key}")
    elif kind in ("str", "int", "bool"):
        assert type(value).__name__ == kind, f"{place}: {value!r} is no {kind}"
    else:
        assert isinstance(value, dict), place
        for key, item in value.items():
            assert key in TYPES[kind], f"{place}: {kind} has no field {key}"
            check(item, TYPES[kind][key], f"{place}.{key}")


def written(folder, **settings) -> dict:
    write_kserve(serving(**settings), folder)
    service = yaml.safe_load((folder / FILE).read_text())
    check(service, "V1beta1InferenceService")
    return service


def test_it_is_an_inference_service_of_protocol_v2(tmp_path):
    service = written(tmp_path, memory_limit="900m")
    assert (service["apiVersion"], service["kind"], service["metadata"]["name"]) == ("serving.kserve.io/v1beta1", "InferenceService", "segmenter")
    model = service["spec"]["predictor"]["model"]
    assert model["protocolVersion"] == "v2" and model["modelFormat"] == {"name": "triton", "version": "2"}
    assert model["storageUri"] == f"pvc://segmenter/{REPOSITORY}" and model["image"] == image_of(serving())
    assert model["resources"]["limits"] == {"memory": "900Mi"}
    mounted = {mount["name"]: mount["mountPath"] for mount in model["volumeMounts"]}
    assert mounted == {volume["name"]: "/dev/shm" for volume in service["spec"]["predictor"]["volumes"]}


def test_where_the_repository_and_the_image_are_is_settable(tmp_path):
    model = written(tmp_path, kserve={"storage_uri": "s3://bucket/models"}, triton={"image": "registry.example/animals:3"})["spec"]["predictor"]["model"]
    assert (model["storageUri"], model["image"]) == ("s3://bucket/models", "registry.example/animals:3")
    text = (tmp_path / FILE).read_text()
    assert "at s3://bucket/models " in text and "docker build -t registry.example/animals:3 ../triton" in text


def test_the_check_finds_what_kserve_does_not_know(tmp_path):
    service = written(tmp_path)
    service["spec"]["predictor"]["model"]["storageURI"] = "s3://x"
    with pytest.raises(AssertionError, match="V1beta1ModelSpec has no field storageURI"):
        check(service, "V1beta1InferenceService")


@pytest.mark.parametrize(("model_name", "name"), [("segmenter", "segmenter"), ("Animals.v2_x", "animals-v2-x"), ("3birds", "model-3birds"), ("a" * 80, "a" * 50), ("x--", "x")])
def test_names_are_those_that_kubernetes_takes(model_name, name):
    assert service_name(serving(model_name=model_name)) == name
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_a_place_that_is_no_uri_is_refused():
    with pytest.raises(ConfigError, match="serving.kserve.storage_uri"):
        serving(kserve={"storage_uri": "/my folder"})
