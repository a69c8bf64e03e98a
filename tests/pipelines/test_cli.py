"""What the command line says to wrong input: one message, exit code 2, nothing half-written."""

import json

import pytest
import yaml
from PIL import Image

from tfwsss.report.table import ScoreRow, ScoreTable


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run the command line in this process: (exit code, standard error)."""
    import sys

    from tfwsss_pipelines import cli

    def call(*arguments):
        lines = []
        monkeypatch.setattr(cli.console, "print", lambda *text, **kw: lines.append(" ".join(map(str, text))))
        monkeypatch.setattr(sys, "argv", ["tfwsss", *map(str, arguments)])
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, "\n".join(lines)

    return call


def write_config(folder, **data):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"work_dir": str(folder / "work"), "data": data}))
    return path


def test_missing_configuration(invoke):
    code, text = invoke("run", "demo-scene")
    assert code == 2
    assert "no configuration file or preset 'demo-scene'; did you mean 'demo-scenes'?" in text


def test_typo_in_yaml_names_the_field(invoke, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {format: scenes}\nclassifier: {epoch: 3}\n")
    code, text = invoke("run", path)
    assert code == 2
    assert "classifier.epoch: unknown field; did you mean 'epochs'?" in text
    assert not (tmp_path / "work").exists()


def test_override_with_wrong_value(invoke):
    code, text = invoke("run", "demo-scenes", "--set", "classifier.epochs=many")
    assert code == 2
    assert "classifier.epochs" in text and "'many'" in text


def test_unknown_stage(invoke, tmp_path):
    code, text = invoke("stage", "cam", write_config(tmp_path, format="scenes"))
    assert code == 2
    assert "no stage 'cam'; the stages are data, classifier, cams" in text


def test_empty_folder(invoke, tmp_path):
    (tmp_path / "photos").mkdir()
    code, text = invoke("run", write_config(tmp_path, format="folder", root=str(tmp_path / "photos")))
    assert code == 2
    assert "tags.csv" in text


def test_mostly_bad_data_stops_before_training_and_lists_the_photos(invoke, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 64), "red").save(photos / "good.png")
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    (photos / "tags.csv").write_text("image,tags\ngood.png,cat\nbad.jpg,cat\ngone.jpg,cat\n")
    code, text = invoke("run", write_config(tmp_path, format="folder", root=str(photos)))
    assert code == 2
    assert "2 of 3 training photos are unusable" in text
    quarantine = (tmp_path / "work/data/quarantine.csv").read_text()
    assert "bad.jpg" in quarantine and "gone.jpg" in quarantine and "good" not in quarantine
    assert not (tmp_path / "work/classifier").exists()


def test_stage_without_its_predecessor(invoke, tmp_path):
    code, text = invoke("stage", "cams", write_config(tmp_path, format="scenes", train_images=2, val_images=1, size=96))
    assert code == 2
    assert "stage data has not finished: run it first" in text


def test_predict_with_a_file_that_is_no_model(invoke, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"nothing")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    code, text = invoke("predict", tmp_path / "photo.png", "--model", model)
    assert code == 2
    assert "model.onnx" in text


def test_summary_of_a_run_that_has_not_finished(invoke, tmp_path):
    code, text = invoke("summary", tmp_path, tmp_path)
    assert code == 2
    assert "evaluate/table.json: no such file; has stage evaluate finished there?" in text


def test_summary_against_a_run_that_learnt_from_masks(invoke, tmp_path, capsys):
    for run, score in (("tags", 0.45), ("twin", 0.6), ("twin2", 0.65)):
        folder = tmp_path / run / "evaluate"
        folder.mkdir(parents=True)
        (folder / "table.json").write_text(json.dumps(ScoreTable((ScoreRow("segmenter", "val", 4, score, {}),)).to_dict()))
    invoke("summary", tmp_path / "tags", "--against", tmp_path / "twin", "--against", tmp_path / "twin2")
    assert capsys.readouterr().out.splitlines()[1].split() == ["segmenter", "val", "45.0", "62.5", "\N{PLUS-MINUS SIGN}", "3.5", "72.0", "72.0"]
    code, text = invoke("summary", tmp_path / "tags", "--against", tmp_path / "none")
    assert code == 2 and "none/evaluate/table.json: no such file" in text


def test_summary_without_a_segmenter(invoke, tmp_path, capsys):
    for run, score in (("a", 0.5), ("b", 0.6)):
        folder = tmp_path / run / "label_scores"
        folder.mkdir(parents=True)
        rows = (ScoreRow("CAM", "train", 4, score, {"cat": score}), ScoreRow("walk", "train", 4, score + 0.1, {"cat": score}))
        (folder / "table.json").write_text(json.dumps(ScoreTable(rows).to_dict()))
    invoke("summary", tmp_path / "a", tmp_path / "b", "--stage", "label_scores")
    text = capsys.readouterr().out
    assert "65.0 \N{PLUS-MINUS SIGN} 7.1" in text and "+10.0" in text
    assert invoke("summary", tmp_path / "a", "--stage", "export")[0] == 2
