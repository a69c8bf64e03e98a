"""`tfwsss labels export` and `tfwsss labels import` on what a run has left."""

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tests.exchange.conftest import FIXTURE, TAGS
from tfwsss.config.files import load_config
from tfwsss.data import load_split
from tfwsss.data.image import read_mask
from tfwsss.errors import DataError, StageError
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import write_json
from tfwsss_pipelines.exchange.command import labels_app
from tfwsss_pipelines.exchange.predicting import confidences

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


@pytest.fixture
def segmented(work):
    """The run's segmenter, and photos that are not in its data."""
    from tfwsss import models
    from tfwsss.weights import save_weights

    model = models.build_segmenter("mobilenetv2", 2, width=0.35, output_stride=16, head="lraspp")
    (work / "work/segmenter").mkdir()
    save_weights(model, work / "work/segmenter/weights.safetensors")
    (work / "new/b").mkdir(parents=True)
    for name in ("a", "b/c"):
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (40, 56, 3), np.uint8)).save(work / f"new/{name}.png")
    return work, ("--set", "segmenter.model.backbone=mobilenetv2", "--set", "segmenter.model.width=0.35")


def test_predictions_on_new_photos(segmented):
    work, settings = segmented
    (work / "new/broken.png").write_bytes(b"no photo")
    said = call("export", "run.yaml", "--to", "folders", "--new", "new", "--photos", "upload", *settings)
    assert said.splitlines() == ["2 of 2 photos, as the segmenter sees them: labels.folders", "their photos: upload"]
    names = {path.relative_to(work / "labels.folders").as_posix() for path in (work / "labels.folders").rglob("*") if path.is_file()}
    assert names == {"data.yaml", *(f"{kind}/train/{name}.png" for kind in ("images", "masks") for name in ("a", "c"))}
    assert sorted(path.name for path in (work / "upload").iterdir()) == ["a.png", "c.png"]

    from tfwsss.export.inference import Inference
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    photo = np.asarray(Image.open(work / "new/a.png"))
    scores = Inference(load_model(work / "work/segmenter/weights.safetensors"), normalization("mobilenetv2")).scores(photo[np.newaxis]).numpy()[0]
    found = read_mask(work / "labels.folders/masks/train/a.png")
    sure = np.sort(scores, axis=2)[..., -1] - np.sort(scores, axis=2)[..., -2] > 1e-4
    np.testing.assert_array_equal(found[sure], scores.argmax(axis=2)[sure])
    call("export", "run.yaml", "--to", "labelstudio", "--new", "new/*.png", "--new", "new/b", "--limit", "1", *settings)
    (task,) = json.loads((work / "labels.labelstudio.json").read_text())
    assert 0.33 < task["predictions"][0]["score"] <= 1
    with pytest.raises(DataError, match="none of the photos can be read"):
        call("export", "run.yaml", "--to", "coco", "--new", "new/broken.png", *settings)
    assert not (work / "labels.coco.json").exists()


def test_predictions_need_a_segmenter(work):
    with pytest.raises(StageError, match="stage segmenter has not finished there"):
        call("export", "run.yaml", "--to", "cvat", "--new", "photos")


def test_confidences_are_mean_probabilities():
    scores = np.zeros((2, 2, 3), np.float32)
    scores[0, 0], scores[0, 1], scores[1, 0], scores[1, 1] = (0.9, 0.1, 0), (0.1, 0.6, 0.3), (0, 0.8, 0.2), (0.2, 0.3, 0.5)
    classes, confidence = confidences(scores, scores.argmax(axis=2))
    assert classes == pytest.approx({0: 0.7, 1: 0.5}) and confidence == pytest.approx(0.6)
    classes, confidence = confidences(scores[:1, :1], np.zeros((1, 1), int))
    assert classes == {} and confidence == pytest.approx(0.9)


def test_labels_of_photos_that_were_made_smaller_are_exchanged_as_large_as_the_files(work):
    for name in TAGS:
        (work / f"work/pseudo_labels/{name}.png").unlink()
        save_label(work / "work/pseudo_labels", name, np.asarray(Image.open(FIXTURE / f"masks/{name}.png").resize((20, 16), Image.Resampling.NEAREST)))
    smaller = ("--set", "data.long_side=64")  # the photos have 40x32: what matters is that labels are smaller than photos
    call("export", "run.yaml", "--to", "cvat", *smaller)
    assert 'name="two.png" width="40" height="32"' in (work / "labels.cvat.xml").read_text()
    with pytest.raises(DataError, match="no mask to import"):
        call("import", "labels.cvat.xml", "run.yaml", "--masks", "corrected", "--changed", *smaller)
    call("import", "labels.cvat.xml", "run.yaml", "--masks", "corrected", *smaller)
    assert read_mask(work / "photos/corrected/two.png").shape == (32, 40)
