"""An export replaces an earlier export of the same version, and nothing else that has its name."""

import json

import pytest

from tfwsss.errors import ExportError
from tfwsss.export.metadata import FORMAT
from tfwsss_pipelines.stages.export import _replace


def export(folder, text):
    (folder / "assets").mkdir(parents=True)
    (folder / "assets/metadata.json").write_text(json.dumps({"format": FORMAT, "text": text}))


def test_an_earlier_export_of_the_version_is_replaced(tmp_path):
    export(tmp_path / "unchecked/1", "new")
    export(tmp_path / "saved_model/1", "old")
    export(tmp_path / "saved_model/2", "other version")
    _replace(tmp_path / "unchecked/1", tmp_path / "saved_model/1")
    assert {path.parts[-3]: json.loads(path.read_text())["text"] for path in tmp_path.rglob("metadata.json")} == {"1": "new", "2": "other version"}
    assert not (tmp_path / "unchecked/1").exists()


@pytest.mark.parametrize("there", ["a model of another program", "damaged", "link", "file"])
def test_anything_else_is_refused(tmp_path, there):
    target, elsewhere = tmp_path / "saved_model/1", tmp_path / "elsewhere"
    export(tmp_path / "unchecked/1", "new")
    export(elsewhere, "mine")
    target.parent.mkdir()
    if there == "link":
        target.symlink_to(elsewhere)
    elif there == "file":
        target.write_text("mine")
    else:
        (target / "assets").mkdir(parents=True)
        (target / "saved_model.pb").write_text("mine")
        if there == "damaged":
            (target / "assets/metadata.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ExportError, match="saved_model/1: is there already and was not exported by tfwsss"):
        _replace(tmp_path / "unchecked/1", target)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_takes_the_place_of_a_link_and_not_of_what_it_points_to(tmp_path):
    (tmp_path / "mine.onnx").write_text("mine")
    (tmp_path / "model.onnx").symlink_to("mine.onnx")
    (tmp_path / "new.onnx").write_text("new")
    _replace(tmp_path / "new.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "mine.onnx").read_text() == "mine" and (tmp_path / "model.onnx").read_text() == "new"
