"""`tfwsss labels export` and `tfwsss labels import` on what a run has left."""

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from tests.exchange.conftest import FIXTURE, TAGS
from tfwsss.config.files import load_config
from tfwsss.data import load_split
from tfwsss.data.image import read_mask
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import write_json
from tfwsss_pipelines.exchange.command import labels_app

CONFIDENCE = {"two": 0.2, "four": 0.3, "one": 0.4}  # three has no tag


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder data set, its configuration, and the work directory of a run; the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURE / "images", tmp_path / "photos")
    names = ("square", "disc")
    lines = [f"{name}.png,{'|'.join(names[tag] for tag in tags)}" for name, tags in TAGS.items()]
    (tmp_path / "photos/tags.csv").write_text("\n".join(["image,tags", *lines, ""]))
    data = {"format": "folder", "root": "photos", "classes": ["square", "disc"], "untagged": "background"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"name": "run", "work_dir": "work", "data": data}))
    for name in TAGS:
        save_label(tmp_path / "work/pseudo_labels", name, read_mask(FIXTURE / f"masks/{name}.png"))
    write_json(tmp_path / "work/data/usable.json", {"train": sorted(TAGS), "val": [], "unscored": {"train": [], "val": []}})
    (tmp_path / "work/label_audit").mkdir()
    with (tmp_path / "work/label_audit/photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("photo", "confidence", "classes"), *((name, value, "disc") for name, value in CONFIDENCE.items())])
    (tmp_path / "work/label_audit/classes.csv").write_text("photo,class,confidence,share,reason\ntwo,disc,0.1500,0.2,x\ntwo,square,0.2500,0.2,x\n")
    return tmp_path


def call(*arguments):
    done = CliRunner().invoke(labels_app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_most_doubtful_first(work):
    assert call("export", "run.yaml", "--to", "coco", "--limit", "2") == "2 of 4 photos, 0 of them with a mask of data.strong_masks: labels.coco.json\n"
    content = json.loads((work / "labels.coco.json").read_text())
    assert [photo["file_name"] for photo in content["images"]] == ["two.png", "four.png"]
    assert [(one["category_id"], one["score"]) for one in content["annotations"]] == [(1, 0.25), (2, 0.15), (3, 0.2), (1, 0.3)]
    call("export", "run.yaml", "--to", "coco", "--order", "name", "-o", "all.json")
    assert [photo["file_name"] for photo in json.loads((work / "all.json").read_text())["images"]] == ["four.png", "one.png", "three.png", "two.png"]
    with pytest.raises(DataError, match=r"all\.json: is there already"):
        call("export", "run.yaml", "--to", "cvat", "-o", "all.json")


def test_round_about(work):
    """Export, correct, import, and the next export begins with those that nobody has corrected."""
    call("export", "run.yaml", "--to", "cvat", "--limit", "2", "--photos", "upload")
    assert sorted(path.name for path in (work / "upload").iterdir()) == ["four.png", "two.png"]
    text = (work / "labels.cvat.xml").read_text()
    label = '<polygon label="disc" points="0,0;3,0;3,3;0,3" z_order="1"/>'
    (work / "done.xml").write_text(text.replace('name="two.png" width="40" height="32">', f'name="two.png" width="40" height="32">{label}'))
    said = call("import", "done.xml", "run.yaml", "--masks", "corrected", "--changed")
    assert said.splitlines() == [
        "left out, the same as the pseudo label: 1",
        "1 masks written for data.strong_masks: corrected",
        "put this into the configuration, below data:",
        "  strong_masks: corrected",
    ]
    config = load_config("run.yaml", ["data.strong_masks=corrected"])
    dataset = load_split(config.data, "train", config.work_dir)
    expected = read_mask(FIXTURE / "masks/two.png")
    expected[:3, :3] = 2
    for sample in dataset.samples:
        mask = dataset.strong_mask(sample)
        if sample.id == "two":
            np.testing.assert_array_equal(mask, expected)
        else:
            assert mask is None
    strong = ("--set", "data.strong_masks=corrected")
    assert "1 were there already" in call("import", "done.xml", "run.yaml", "--changed", *strong)
    call("export", "run.yaml", "--to", "labelstudio", *strong)
    tasks = json.loads((work / "labels.labelstudio.json").read_text())
    assert [(task["data"]["image"].split("=")[1], task["predictions"][0]["score"]) for task in tasks] == [("four.png", 0.3), ("one.png", 0.4), ("three.png", 1.0), ("two.png", 1.0)]


@pytest.mark.parametrize("to", ["folders", "yolo"])
def test_evaluation_photos_with_masks_are_in_data_sets(work, to):
    (work / "photos/val.csv").write_text("image,tags\nheld/x.png,disc\nheld/y.png,disc\n")
    for name in ("x", "y"):
        (work / "photos/held").mkdir(exist_ok=True)
        shutil.copyfile(FIXTURE / "images/one.png", work / f"photos/held/{name}.png")
    save_label(work / "photos/masks", "held/x", read_mask(FIXTURE / "masks/one.png"))
    usable = json.loads((work / "work/data/usable.json").read_text())
    write_json(work / "work/data/usable.json", usable | {"val": ["held/x", "held/y"]})
    call("export", "run.yaml", "--to", to, "--limit", "1", "--set", "data.val_csv=val.csv", "--set", "data.mask_folder=masks")
    names = {path.relative_to(work / f"labels.{to}").as_posix() for path in (work / f"labels.{to}").rglob("*") if path.is_file()}
    below, suffix = ("masks", "png") if to == "folders" else ("labels", "txt")
    assert names == {"data.yaml", "images/train/two.png", "images/val/held/x.png", f"{below}/train/two.{suffix}", f"{below}/val/held/x.{suffix}"}


def test_nothing_is_written_when_something_is_wrong(work):
    call("export", "run.yaml", "--to", "folders")
    masks = work / "labels.folders/masks/train"
    shutil.copyfile(masks / "two.png", masks / "unknown.png")
    with pytest.raises(DataError, match=r"'unknown\.png' is none of the 4 training photos"):
        call("import", masks, "run.yaml", "--masks", "corrected")
    assert not (work / "photos/corrected").exists()
    (masks / "unknown.png").unlink()
    save_label(masks, "one", np.full((32, 40), 255, np.uint8))  # tagged, and nothing drawn
    said = call("import", "labels.folders", "run.yaml", "--masks", "corrected")
    assert "left out, tagged photos without a pixel of any class: 1, the first is one" in said and "3 masks written" in said
    for name in ("two", "three", "four"):
        (masks / f"{name}.png").unlink()
    with pytest.raises(DataError, match="no mask to import"):
        call("import", "labels.folders", "run.yaml", "--masks", "corrected")


def test_a_run_that_has_not_come_so_far(work):
    (work / "work/pseudo_labels/one.png").unlink()
    with pytest.raises(DataError, match="no label for 1 of 4 photos, the first is one; has stage pseudo_labels finished"):
        call("export", "run.yaml", "--to", "cvat")
    (work / "work/label_audit/photos.csv").unlink()
    with pytest.raises(DataError, match="has stage label_audit finished there"):
        call("export", "run.yaml", "--to", "cvat")
