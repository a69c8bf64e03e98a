"""Imported masks: where they go, in which numbers, and that nobody's work is written over."""

import json

import numpy as np
import pytest

from tests.exchange.conftest import CLASSES
from tfwsss.config import CocoData, FolderData, ScenesData, VocData
from tfwsss.data import load_split
from tfwsss.data.dataset import Sample
from tfwsss.data.image import read_mask
from tfwsss.errors import DataError
from tfwsss.exchange import Corrected
from tfwsss.exchange.strong_masks import strong_target
from tfwsss.storage.artifacts import save_label


def corrected(drawn, *names, change=None):
    for sample in drawn.samples:
        if sample.id in names:
            label = drawn.labels[sample.id].copy()
            if change is not None:
                label[2, 3] = change
            yield Corrected(sample, label, "here")


def write(data, items, masks="drawn", force=False, classes=CLASSES):
    target = strong_target(data, classes, masks)
    for item in items:
        target.add(item)
    return target.write(force), target


@pytest.fixture
def folder(tmp_path):
    return FolderData(format="folder", root=tmp_path)


def test_masks_are_written_into_a_folder(drawn, folder):
    count, target = write(folder, corrected(drawn, "one", "two"))
    assert (count, target.named, target.value) == (2, False, "drawn")
    for name in ("one", "two"):
        np.testing.assert_array_equal(read_mask(folder.root / f"drawn/{name}.png"), drawn.labels[name])
    count, target = write(folder, corrected(drawn, "one", "two"))
    assert (count, target.unchanged) == (0, 2)


def test_masks_of_ours_are_replaced_and_those_of_others_are_not(drawn, folder):
    save_label(folder.root / "drawn", "four", drawn.labels["one"])
    write(folder, corrected(drawn, "one", "two"))
    assert write(folder, corrected(drawn, "one", change=1))[0] == 1  # corrected once more
    save_label(folder.root / "drawn", "two", drawn.labels["three"])  # somebody goes on with what was imported
    before = {path: path.read_bytes() for path in (folder.root / "drawn").iterdir()}
    with pytest.raises(DataError, match=r"four\.png, .*two\.png: a mask is there that tfwsss has not written, .*--force"):
        write(folder, corrected(drawn, "one", "two", "four", change=2))
    assert {path: path.read_bytes() for path in (folder.root / "drawn").iterdir()} == before
    assert write(folder, corrected(drawn, "one", "two", "four", change=2), force=True)[0] == 3
    assert read_mask(folder.root / "drawn/four.png")[2, 3] == 2


def test_a_damaged_mask_is_somebodys(drawn, folder):
    (folder.root / "drawn").mkdir()
    (folder.root / "drawn/one.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"one\.png: a mask is there"):
        write(folder, corrected(drawn, "one"))
    (folder.root / "drawn/imported.json").write_text("[]")
    with pytest.raises(DataError, match=r"imported\.json: not what tfwsss has written"):
        write(folder, corrected(drawn, "one"))


def test_places_that_are_refused(drawn, tmp_path, folder):
    for data, masks, message in (
        (folder, None, "data.strong_masks names no place for the masks; choose one: --masks FOLDER"),
        (folder, "../drawn", "leaves the data set's folder"),
        (folder, "/drawn", "leaves the data set's folder"),
        (folder.model_copy(update={"strong_masks": "by_hand"}), "drawn", "the configuration names another place, data.strong_masks: by_hand"),
        (folder.model_copy(update={"mask_folder": "drawn"}), "./drawn", "is data.mask_folder, too"),
        (ScenesData(format="scenes"), "drawn", "generated scenes have exact masks"),
        (CocoData(format="coco", train_json=tmp_path / "a.json", train_images=tmp_path), None, "--masks FILE.json"),
        (CocoData(format="coco", train_json=tmp_path / "a.json", train_images=tmp_path), str(tmp_path / "b/../a.json"), "is data.train_json, which is not changed"),
    ):
        with pytest.raises(DataError, match=message):
            strong_target(data, CLASSES, masks)
    assert not list(tmp_path.iterdir())


def test_voc_masks_have_the_devkits_numbers(drawn, tmp_path):
    data = VocData(format="voc", root=tmp_path, strong_masks="Corrected", classes=("dog", "cat"))
    assert write(data, corrected(drawn, "two"), None, classes=("dog", "cat"))[1].named
    label = drawn.labels["two"]
    np.testing.assert_array_equal(read_mask(tmp_path / "Corrected/two.png"), np.where(label == 1, 12, np.where(label == 2, 8, label)))


@pytest.fixture
def coco(drawn, tmp_path):
    images = [{"id": number, "file_name": sample.image.name, "width": 40, "height": 32} for number, sample in enumerate(drawn.samples, 5)]
    content = {
        "images": images,
        "categories": [{"id": 9, "name": "square"}, {"id": 4, "name": "disc"}],
        "annotations": [{"id": 10 * one["id"] + category, "image_id": one["id"], "category_id": category, "bbox": [1, 1, 2, 2]} for one in images for category in (9, 4)],
    }
    (tmp_path / "tags.json").write_text(json.dumps(content))
    return CocoData(format="coco", train_json=tmp_path / "tags.json", train_images=drawn.folder / "images", strong_masks=tmp_path / "masks.json")


def learnt(data):
    dataset = load_split(data, "train", data.train_json.parent)
    return {sample.id: dataset.strong_mask(sample) for sample in dataset.samples}


def test_coco_masks_are_written_into_an_instances_file(drawn, coco):
    assert write(coco, corrected(drawn, "one", "three"), None)[0] == 2
    found = learnt(coco)
    for name in ("one", "three"):
        np.testing.assert_array_equal(found[name], drawn.labels[name])
    assert found["two"] is None and found["four"] is None
    assert write(coco, corrected(drawn, "two", "one"), None)[0] == 1  # one is there already
    np.testing.assert_array_equal(learnt(coco)["two"], drawn.labels["two"])
    assert write(coco, corrected(drawn, "one", change=1), None)[0] == 1
    assert learnt(coco)["one"][2, 3] == 1


def test_coco_masks_of_others_stay(drawn, coco):
    box = {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "area": 81, "iscrowd": 0}
    content = {
        "images": [{"id": 30, "file_name": "one.png", "width": 40, "height": 32, "licence": "mine"}, {"id": 31, "file_name": "four.png", "width": 40, "height": 32}],
        "categories": [{"id": 2, "name": "bird"}, {"id": 7, "name": "disc"}],
        "annotations": [{"id": 1, "image_id": 30, "category_id": 7, **box}, {"id": 2, "image_id": 31, "category_id": 2, **box}],
        "info": {"by": "me"},
    }
    coco.strong_masks.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"masks\.json, photo one: a mask is there"):
        write(coco, corrected(drawn, "one", "two"), None)
    assert json.loads(coco.strong_masks.read_text()) == content
    write(coco, corrected(drawn, "one", "two"), None, force=True)
    after = json.loads(coco.strong_masks.read_text())
    assert after["images"][0] == content["images"][1] and after["annotations"][0] == content["annotations"][1] and after["info"] == {"by": "me"}
    assert len({one["id"] for one in after["annotations"]}) == len(after["annotations"])
    found = learnt(coco)
    np.testing.assert_array_equal(found["one"], drawn.labels["one"])
    assert (found["four"][:9, :9] == 255).all()  # a bird is none of the classes


def test_a_photo_below_folders(drawn, folder):
    sample = Sample("farm/a.b", drawn.samples[0].image, ())
    write(folder, [Corrected(sample, drawn.labels["four"], "here")])
    assert (folder.root / "drawn/farm/a.b.png").is_file()
