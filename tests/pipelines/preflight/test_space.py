"""The estimate of what a run writes, against what runs have written; crops; the tracking store."""

import os
import socket

import pytest

from tfwsss.config.files import parse_config
from tfwsss_pipelines.preflight import crops, places, space
from tfwsss_pipelines.preflight.space import Photo


def config(tmp_path, **sections):
    return parse_config({"data": {"format": "scenes"}, "work_dir": str(tmp_path), **sections})


def written(*folders):
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def test_the_estimate_of_maps_is_of_the_order_of_what_a_run_has_written(finished, tiny_config):
    from PIL import Image

    from tfwsss.config.files import load_config

    tiny = load_config(str(tiny_config))
    labels = [Image.open(path) for path in (finished / "pseudo_labels").rglob("*.png")]
    photos = [Photo(label.width * label.height, 2) for label in labels]
    real = written(*(finished / name for name in ("cams", "affinity_labels", "walk", "pseudo_labels", "label_votes", "label_audit")))
    assert 0.5 < space.maps(tiny, photos) / real < 2
    networks = written(*(finished / name for name in ("classifier", "affinitynet", "segmenter")))
    assert space.networks(tiny) > networks
    assert space.needed(tiny, photos) > real + networks


def test_warnings_name_the_disk_and_forget_what_is_there(tmp_path, monkeypatch):
    photos = [Photo(1_000_000, 3)] * 100_000
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: os.terminal_size((0, 0)) and type("Usage", (), {"free": 10**10}))
    (line,) = space.space_warnings(config(tmp_path), photos, [])
    assert line.startswith(f"{tmp_path}: 10 GB free, the run needs about ")
    monkeypatch.setattr(space, "_held", lambda folder: 10**12)
    assert space.space_warnings(config(tmp_path), photos, [tmp_path]) == []
    assert space.space_warnings(config(tmp_path / "not/yet"), photos[:1], []) == []


def test_crops_that_are_mostly_empty(tmp_path):
    assert crops.crop_warnings(config(tmp_path), 375, 500) == []
    lines = crops.crop_warnings(config(tmp_path, classifier={"crop": 64, "resize_long": [40, 60]}), 100, 100)
    assert [line.split(" ")[0] for line in lines] == ["affinitynet.crop", "segmenter.crop"]
    (line,) = [line for line in crops.crop_warnings(config(tmp_path, classifier={"crop": 448, "scale_range": [0.5, 2.0]}), 100, 100) if line.startswith("classifier")]
    assert line.endswith("fill 20% of it at most (classifier.scale_range up to 2); take a smaller crop")
    assert "segmenter.crop 448: photos of 100x100 px, the median here, fill 8% of it at most (segmenter.scale_range up to 1.3)" in lines[1]


def test_places(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert places.work_problems(config(tmp_path / "file/x"), []) == [f"work_dir: {tmp_path}/file: is a file"]
    assert places.work_problems(config(tmp_path / "a/b"), []) == []
    denied = tmp_path / "cams"
    denied.mkdir()
    monkeypatch.setattr(places, "_writable", lambda folder: folder != denied)
    assert places.work_problems(config(tmp_path), [tmp_path / "walk", denied]) == [f"work_dir: {denied}: no permission to write"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://me:secret@127.0.0.1:{port}", "nothing answers at 127.0.0.1:{port}; a run would keep what it logs"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:{port}/db", "nothing answers at 127.0.0.1:{port}"),
        ("http://127.0.0.1:no", "the port is no number"),
        ("sqlite:////no/such/place/mlflow.db", "there is no folder /no/such/place"),
        ("databricks", ""),
        ("databricks://profile", ""),
    ],
)
def test_tracking_stores(tmp_path, monkeypatch, address, line):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(port=port))
        if "{port}" in address:
            assert places.tracking_warnings() == []
    found = " ".join(places.tracking_warnings())
    assert line.format(port=port) in found and bool(found) == bool(line) and "secret" not in found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert places.tracking_warnings() == []
