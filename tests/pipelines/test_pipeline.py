"""One whole run of the tiny pipeline: what it leaves behind, and the commands that use it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.command import environment_with
from tests.decoys import make_decoys
from tfwsss.storage.artifacts import load_cam, load_label
from tfwsss_pipelines.stages import NAMES


def test_files_of_the_contract(finished):
    ids = [path.relative_to(finished / "scenes").with_suffix("") for path in (finished / "scenes/train").iterdir()]
    assert len(ids) == 6
    for image_id in ids:
        with np.load(finished / f"cams/{image_id}.npz", allow_pickle=False) as cams:
            assert cams["classes"].dtype == np.int32
            assert cams["size"].tolist() == [*load_label(finished / "pseudo_labels", str(image_id)).shape]
            maps = [cams[name] for name in cams.files if name.startswith("scale_")]
            assert [one.dtype for one in maps] == [np.float16] * 2 and all(one.ndim == 3 and one.min() >= 0 for one in maps)
        classes, cam = load_cam(finished / "cams", str(image_id))
        assert cam.shape[0] == len(classes)
        assert cam.min() >= 0 and cam.max() <= 1 + 1e-3  # float16
        for folder in ("affinity_labels", "pseudo_labels"):
            with Image.open(finished / folder / f"{image_id}.png") as label:
                assert label.mode == "P"
                assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5, 255}
    for name in ("export/saved_model/1/saved_model.pb", "export/model.onnx", "export/parity.json", "report/index.html", "report/strip.png"):
        assert (finished / name).is_file()
    leftovers = [path for path in finished.rglob("*") if ".tmp" in path.name or path.name == "unchecked"]
    assert leftovers == []


def test_the_part_of_the_pixels_that_are_sure_is_that_of_the_labels(finished):
    labels = [load_label(finished / "affinity_labels", str(path.relative_to(finished / "scenes").with_suffix(""))) for path in (finished / "scenes/train").iterdir()]
    sure = sum(int((label != 255).sum()) for label in labels) / sum(label.size for label in labels)
    metrics = json.loads((finished / "label_scores/stage.json").read_text())["metrics"]
    assert metrics["confident_pixels"] == pytest.approx(sure)


def test_no_file_of_a_training_stage_knows_an_evaluation_photo(finished):
    for folder in ("cams", "affinity_labels", "walk", "pseudo_labels"):
        assert not (finished / folder / "val").exists()


def test_every_stage_is_a_finished_child_of_one_run(finished):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.parent}/mlflow.db")
    parents = set()
    for stage in NAMES:
        record = json.loads((finished / stage / "stage.json").read_text())
        run = client.get_run(record["run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.tags["tfwsss.fingerprint"] == record["fingerprint"]
        parents.add(run.data.tags["mlflow.parentRunId"])
    assert len(parents) == 1
    classifier = json.loads((finished / "classifier/stage.json").read_text())["run_id"]
    losses = client.get_metric_history(classifier, "loss")
    assert [point.step for point in losses] == [1, 2, 3]
    evaluate = client.get_run(json.loads((finished / "evaluate/stage.json").read_text())["run_id"])
    assert "miou/train/walk" in evaluate.data.metrics and "miou/val/segmenter" in evaluate.data.metrics


def test_every_onnx_file_says_what_it_is_and_what_it_scores(finished):
    record = json.loads((finished / "export/stage.json").read_text())
    parity = json.loads((finished / "export/parity.json").read_text())
    for precision, name in (("fp32", "model.onnx"), ("fp16", "model.fp16.onnx"), ("int8", "model.int8.onnx")):
        model = onnx.load(finished / "export" / name)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        assert [value.name for value in model.graph.output] == ["mask", "scores"]
        assert properties["precision"] == precision and properties["preset"] == "tiny" and properties["licence"] == "CC0-1.0"
        assert properties["mlflow_run_id"] == record["run_id"]
        assert properties["data_digest"] and json.loads(properties["normalization"]) and json.loads(properties["palette"])[0] == [0, 0, 0]
        miou = json.loads(properties["miou"])
        assert miou["images"] == 3 and set(miou) == {"images", "fp32", "fp16", "int8"}
        entry = parity["accuracy"]["reference"] if precision == "fp32" else parity["accuracy"]["variants"][precision]
        assert miou[precision] == pytest.approx(entry["miou"], abs=1e-4) and entry["path"] == name


def test_predict_gives_the_masks_of_the_evaluation(finished, tmp_path, cli):
    photos = sorted((finished / "scenes/val").iterdir())
    done = cli(tmp_path, "predict", *map(str, photos), "--model", str(finished / "export/model.onnx"), "--overlay")
    assert done.returncode == 0, done.stderr
    for photo in photos:
        with Image.open(tmp_path / f"predictions/{photo.stem}.png") as label, Image.open(finished / f"evaluate/segmenter/val/{photo.stem}.png") as expected:
            assert (np.asarray(label) != np.asarray(expected)).mean() < 1e-3
        assert (tmp_path / f"predictions/{photo.stem}.overlay.jpg").is_file()


def test_predict_leaves_out_a_bad_photo_and_says_so(finished, tmp_path, cli):
    good = next((finished / "scenes/val").iterdir())
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    done = cli(tmp_path, "predict", "bad.jpg", str(good), "--model", str(finished / "export/model.onnx"))
    assert done.returncode == 2
    assert "bad.jpg" in done.stderr
    assert (tmp_path / f"predictions/{good.stem}.png").is_file()


def test_single_stage_commands_reuse_a_finished_run(finished, tiny_config, cli):
    for command in ("evaluate", "export", "report"):
        done = cli(finished.parent, command, str(tiny_config), "--work-dir", "work")
        assert done.returncode == 0, done.stderr
        assert "▶" not in done.stderr
    assert "mIoU" in done.stdout


@pytest.mark.parametrize(("last", "shown", "hidden"), [("label_scores", ["walk", "CAM"], ["segmenter", "ONNX"]), ("cams", [], ["walk", "ONNX"]), ("evaluate", ["walk", "segmenter"], ["ONNX", "report"])])
def test_a_run_shows_what_it_has_come_to(finished, tiny_config, cli, last, shown, hidden):
    """And not what an earlier run has left of later stages."""
    done = cli(finished.parent, "run", str(tiny_config), "--work-dir", "work", "--until", last)
    assert done.returncode == 0 and "▶" not in done.stderr, done.stderr
    assert all(word in done.stdout for word in shown) and not any(word in done.stdout for word in hidden), done.stdout


def test_data_check_prints_text_and_json(finished, tiny_config, cli):
    done = cli(finished.parent, "data", "check", str(tiny_config), "--work-dir", "work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rabbit" in done.stdout
    done = cli(finished.parent, "data", "check", str(tiny_config), "--work-dir", "work", "--json")
    assert json.loads(done.stdout)["errors"] == []


@pytest.mark.slow
def test_mlflow_project_does_what_the_command_line_does(finished, tiny_config, tmp_path):
    """`mlflow run` of one stage in a copy of the finished run, and of the pipeline up to a stage, from a copy of the project."""
    root = Path(__file__).parents[2]
    shutil.copytree(finished, tmp_path / "work")
    shutil.copytree(root / "mlflow_project", tmp_path / "project/mlflow_project")
    environment = environment_with(make_decoys(tmp_path / "project"), MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    command = [mlflow, "run", "mlflow_project", "--env-manager", "local", "-P", f"config={tiny_config}", "-P", f"work_dir={tmp_path}/work"]
    (tmp_path / "work/report/stage.json").unlink()
    done = subprocess.run([*command, "-e", "report"], cwd=tmp_path / "project", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    from mlflow.tracking import MlflowClient

    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    record = json.loads((tmp_path / "work/report/stage.json").read_text())
    child = client.get_run(record["run_id"])
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["mlflow.project.entryPoint"] == "report"
    assert parent.info.status == "FINISHED"

    done = subprocess.run([*command, "-P", "last=cams"], cwd=tmp_path / "project", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cams: unchanged, reused" in done.stdout + done.stderr
