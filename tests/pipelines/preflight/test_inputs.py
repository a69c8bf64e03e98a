"""Every path that a configuration names is known before a run writes anything."""

from pathlib import Path

import pytest

from tfwsss.config import Config
from tfwsss_pipelines.preflight.inputs import data_paths, named_paths, tracking_store, weight_files

TAGGED = {"root": "r", "groups": ["g.csv"], "mask_folder": "masks", "strong_masks": "strong"}
OF_TAGGED = {"data.root": "r", "data.groups": "r/g.csv", "data.mask_folder": "r/masks", "data.strong_masks": "r/strong"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"format": "scenes"}, {}),
        (
            {"format": "coco", "train_json": "t.json", "train_images": "t", "val_json": "v.json", "val_images": "v", "strong_masks": "s.json"},
            {"data.train_json": "t.json", "data.train_images": "t", "data.val_json": "v.json", "data.val_images": "v", "data.strong_masks": "s.json"},
        ),
        ({"format": "coco", "train_json": "t.json", "train_images": "t"}, {"data.train_json": "t.json", "data.train_images": "t"}),
        (
            {"format": "folder", **TAGGED, "train_csv": "t.csv", "val_csv": "v.csv", "class_names": "n.csv"},
            {**OF_TAGGED, "data.train_csv": "r/t.csv", "data.val_csv": "r/v.csv", "data.class_names": "r/n.csv"},
        ),
        (
            {"format": "class_folders", **TAGGED, "train_folder": "t", "val_folder": "v"},
            {**OF_TAGGED, "data.train_folder": "r/t", "data.val_folder": "r/v"},
        ),
        *(
            ({"format": name, **TAGGED, "train_file": "t.x", "val_file": "v.x"}, {**OF_TAGGED, "data.train_file": "r/t.x", "data.val_file": "r/v.x"})
            for name in ("label_studio", "cvat", "fiftyone")
        ),
    ],
)
def test_paths_of_each_format(data, expected):
    config = Config.model_validate({"data": data, "work_dir": "w"})
    assert dict(data_paths(config)) == {name: Path(path) for name, path in expected.items()}


@pytest.mark.parametrize("format", ["parquet", "tfrecord"])
def test_files_that_hold_photos(tmp_path, format):
    for name in ("train-0", "train-1", "val-0"):
        (tmp_path / name).touch()
    data = {"format": format, "root": tmp_path, "train_files": "train-*", "val_files": "val-*"}
    found = list(data_paths(Config.model_validate({"data": data, "work_dir": "w"})))
    assert found == [("data.root", tmp_path), *(("data.train_files", tmp_path / f"train-{i}") for i in (0, 1)), ("data.val_files", tmp_path / "val-0")]


def test_lists_of_a_devkit(tmp_path):
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name in ("train", "val", "official"):
        (lists / f"{name}.txt").write_text("a\n")
    data = {"format": "voc", "root": tmp_path, "train_mask_list": "official", "tags": "tags.csv", "strong_masks": "strong"}
    found = list(data_paths(Config.model_validate({"data": data, "work_dir": "w"})))
    assert {path.relative_to(tmp_path).as_posix() for _, path in found} == {
        *(".", "SegmentationClass", "strong", "JPEGImages", "Annotations", "tags.csv"),
        *(f"ImageSets/Segmentation/{name}.txt" for name in ("train", "val", "official")),
    }


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, "mlflow.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b.db", "b.db"),
        ("file:///a/runs", "/a/runs"),
        ("runs", "runs"),
        ("http://server:5000", None),
        ("databricks", None),
    ],
)
def test_where_mlflow_keeps_runs(monkeypatch, address, expected):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if address is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert tracking_store() == (None if expected is None else Path(expected))


def test_everything_a_run_reads(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    weights = {"classifier": "c.h5", "affinitynet": "classifier", "segmenter": None}
    config = Config.model_validate({"data": {"format": "folder", "root": "r"}, "work_dir": "w", **{name: {"model": {"weights": value}} for name, value in weights.items()}})
    assert weight_files(config) == {"classifier.model.weights": Path("c.h5")}
    found = named_paths(config, ["c.yaml"])
    assert found == [("configuration", Path("c.yaml")), ("classifier.model.weights", Path("c.h5")), ("data.root", Path("r")), ("data.train_csv", Path("r/tags.csv"))]
