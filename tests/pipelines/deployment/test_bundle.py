"""The whole bundle of a finished run: what is in it, and that what it says comes from the run's records."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from tfwsss.config.files import load_config
from tfwsss.errors import DataError
from tfwsss_onnx import Segmenter
from tfwsss_pipelines.deployment.bundle import write_bundle
from tfwsss_pipelines.deployment.exported import read_exported
from tfwsss_pipelines.deployment.model_card import licence_fields, script


@pytest.fixture(scope="module")
def work(finished, tmp_path_factory):
    """A work directory with the bundle of a finished run."""
    folder = tmp_path_factory.mktemp("bundle") / "work"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(work, tiny_config):
    config = load_config(str(tiny_config), [f"work_dir={work}", "serving.model_name=animals"])
    return write_bundle(config, work)


@pytest.fixture(scope="module")
def card(bundle):
    return ModelCard.load(bundle / "hugging_face/README.md")


def record(work, stage: str) -> dict:
    return json.loads((work / stage / "stage.json").read_text())


def test_every_server_has_its_files(bundle):
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert there >= {"models.config", "docker-compose.yml", "README.md", "triton/model_repository/animals/1/model.onnx", "triton/model_repository/animals-images/1/model.py"}
    assert there >= {"kserve/inference_service.yaml", "hugging_face/README.md", "hugging_face/model.onnx", "hugging_face/model.int8.onnx", "hugging_face/labels.json"}
    assert "$" not in (bundle / "triton/README.md").read_text()


def test_copies_of_the_model_take_no_room(bundle, work):
    original = (work / "export/model.onnx").stat()
    for copy in bundle.rglob("model.onnx"):
        assert copy.stat().st_ino == original.st_ino
        assert copy.read_bytes() == (work / "export/model.onnx").read_bytes()


def test_the_front_matter_is_what_hugging_face_reads(card, work):
    data = card.data.to_dict()
    assert (data["license"], data["pipeline_tag"], data["library_name"]) == ("cc0-1.0", "image-segmentation", "onnx")
    assert "weakly-supervised" in data["tags"] and "tflite" not in data["tags"]
    [result] = card.data.eval_results
    accuracy = json.loads((work / "export/parity.json").read_text())["accuracy"]
    assert result.metric_type == "mean_iou" and result.metric_value == pytest.approx(accuracy["reference"]["miou"], abs=1e-4)
    assert (result.dataset_name, result.dataset_type, result.dataset_split) == ("tiny", "scenes", "val")
    assert "co2_eq_emissions" not in data


def test_every_figure_of_the_card_is_in_the_records(card, work):
    """Percentages are scores, seconds are the stages', counts are the data set's; there is no other number that could be invented."""
    table = json.loads((work / "evaluate/table.json").read_text())
    accuracy = json.loads((work / "export/parity.json").read_text())["accuracy"]
    scores = [value for row in table["rows"] for value in (row["miou"], *row["per_class"].values())]
    scores += [accuracy["reference"]["miou"], *(entry["miou"] for entry in accuracy["variants"].values())]
    known = {f"{100 * value:.1f} %" for value in scores if value is not None and math.isfinite(value)}
    shown = re.findall(r"[\d.]+ %(?! of)", card.content.split("## Scores")[1].replace("surest 90 %", ""))
    assert shown and set(shown) <= known
    seconds = dict(re.findall(r"^\| (\w+) \| (\d+) \|$", card.content.split("## Time and energy")[1], re.MULTILINE))
    total = seconds.pop("all")
    assert {stage: int(value) for stage, value in seconds.items()} == {stage: round(record(work, stage)["seconds"]) for stage in seconds}
    assert set(seconds) >= {"classifier", "segmenter", "export"} and int(total) == round(sum(record(work, stage)["seconds"] for stage in seconds))
    assert "6 training photos, 3 evaluation photos" in card.content
    assert "Energy: not recorded." in card.content and json.loads((work / "data/digests.json").read_text())["train"] in card.content


def test_the_script_of_the_card_gives_the_runtimes_mask(card, bundle, tmp_path):
    folder = shutil.copytree(bundle / "hugging_face", tmp_path / "hugging_face")
    [block] = re.findall(r"^```python\n(.*?)^```$", card.content, re.MULTILINE | re.DOTALL)
    assert block == (folder / "segment.py").read_text()
    photo = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)).resize((80, 60)))
    Image.fromarray(photo).save(folder / "photo.png")
    done = subprocess.run([sys.executable, "-I", "segment.py", "photo.png", "mask.png"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask = Segmenter(folder / "model.onnx", device="cpu")(photo)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "mask.png")), mask)
    labels = json.loads((folder / "labels.json").read_text())
    assert yaml.safe_load(done.stdout) == {labels["id2label"][str(label)]: int((mask == label).sum()) for label in np.unique(mask)}


def test_the_script_of_a_network_that_has_learnt_smaller_photos(work, tmp_path):
    model = onnx.load(work / "export/model.onnx")
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in model.metadata_props} | {"long_side": "50"})
    onnx.save(model, tmp_path / "model.onnx")
    exported = read_exported(tmp_path / "model.onnx")
    (tmp_path / "segment.py").write_text(script(exported))
    labels = {"palette": exported.metadata["palette"], "id2label": dict(enumerate(exported.metadata["labels"]))}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    photo = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)).resize((80, 60)))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    done = subprocess.run([sys.executable, "-I", "segment.py", "photo.png", "mask.png"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), Segmenter(tmp_path / "model.onnx", device="cpu")(photo))


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("unspecified", {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("in-house: research only", {"license": "other", "license_name": "in-house: research only"}),
    ],
)
def test_licences(licence, fields):
    assert licence_fields(licence) == fields


def test_names_that_could_break_the_card(work, tiny_config, tmp_path):
    copy = shutil.copytree(work, tmp_path / "work")
    config = load_config(str(tiny_config), [f"work_dir={copy}", 'name="a | b: <script>#"', 'export.licence="x: y\\n---\\nz"'])
    card = ModelCard.load(write_bundle(config, copy) / "hugging_face/README.md")
    assert card.data.license_name == "x: y\n---\nz" and card.data.eval_results[0].dataset_name == "a | b: <script>#"
    assert "<script>" not in card.content.partition("\n---\n")[2]


def test_a_missing_record_is_one_line(work, tiny_config, tmp_path):
    copy = shutil.copytree(work, tmp_path / "work")
    (copy / "evaluate/table.json").unlink()
    with pytest.raises(DataError, match="evaluate/table.json: no such file"):
        write_bundle(load_config(str(tiny_config), [f"work_dir={copy}"]), copy)


def test_what_an_export_no_longer_has_is_not_published(work, bundle, tiny_config, tmp_path):
    copy = shutil.copytree(work, tmp_path / "work")
    (copy / "export/model.int8.onnx").unlink()
    folder = copy / "export/bundle/hugging_face"
    (folder / "notes.txt").write_text("mine")
    write_bundle(load_config(str(tiny_config), [f"work_dir={copy}"]), copy)
    assert not (folder / "model.int8.onnx").exists() and (folder / "model.onnx").is_file() and (folder / "notes.txt").read_text() == "mine"
    assert "model.int8.onnx" not in (folder / "README.md").read_text().split("Files of this export")[1].split("\n")[0]
