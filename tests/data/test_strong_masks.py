"""Masks that training may learn from, in every format of data set, and apart from those for scoring."""

import json

import numpy as np
import pytest
from PIL import Image

from tfwsss.config import CocoData, FolderData, ScenesData, VocData
from tfwsss.data import load_split
from tfwsss.data.label_sources import LabelFolder, MixedLabels, StrongMasks
from tfwsss.data.strong_masks import check_strong_masks
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import save_label

SHAPE = (40, 50)


def write_photo(path, value=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SHAPE, 3), value, np.uint8)).save(path)


def mask_of(value):
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:20, 5:25] = value
    return mask


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        write_photo(tmp_path / f"{name}.png")
    (tmp_path / "tags.csv").write_text("image,tags\na.png,dog\nb.png,cat\nc.png,dog\n")
    save_label(tmp_path / "drawn", "a", mask_of(2))
    save_label(tmp_path / "scores", "a", mask_of(1))
    save_label(tmp_path / "scores", "b", mask_of(1))
    return tmp_path


def read_folder(root, **changes):
    return load_split(FolderData(format="folder", root=root, mask_folder="scores", strong_masks="drawn", **changes), "train", root)


def test_training_sees_strong_masks_and_no_others(folder):
    dataset = read_folder(folder).without_masks()
    a, b, c = dataset.samples
    np.testing.assert_array_equal(dataset.strong_mask(a), mask_of(2))
    assert dataset.mask(a) is None and dataset.strong_mask(b) is None and dataset.strong_mask(c) is None


def test_masks_for_scoring_are_no_labels_for_training(folder):
    dataset = read_folder(folder)
    source = StrongMasks(dataset.without_masks(), frozenset({"a"}))
    np.testing.assert_array_equal(source(dataset.samples[0], SHAPE), mask_of(2))
    with pytest.raises(DataError, match="2 of 3 photos have no strong mask, the first is b"):
        source.require(dataset)
    with pytest.raises(DataError, match="b: has no strong mask"):
        source(dataset.samples[1], SHAPE)
    with pytest.raises(DataError, match=r"strong mask of a: expected the photo's size \(41, 50\) .* found \(40, 50\)"):
        source(dataset.samples[0], (41, 50))
    source.require(dataset.subset({"a"}))


def test_a_folder_that_is_not_there(folder):
    data = FolderData(format="folder", root=folder, strong_masks="drwan")
    with pytest.raises(DataError, match="data.strong_masks: .*drwan is not a folder"):
        load_split(data, "train", folder)


def test_masks_nobody_can_learn_from_are_named(folder):
    save_label(folder / "drawn", "b", np.zeros((40, 51), np.uint8))
    (folder / "drawn/c.png").write_bytes(b"\x89PNG no")
    problems, digests = check_strong_masks(read_folder(folder))
    assert list(digests) == ["a"]
    assert [problem.id for problem in problems] == ["b", "c"]
    assert problems[0].reason == "its strong mask has 51x40 px, expected the photo's 50x40"
    assert problems[1].reason.startswith("its strong mask: ")


def test_the_digest_follows_the_labels(folder):
    before = check_strong_masks(read_folder(folder))[1]
    save_label(folder / "drawn", "a", mask_of(1))
    assert check_strong_masks(read_folder(folder))[1] != before


def voc(root, **changes):
    for name in ("x", "y"):
        write_photo(root / f"JPEGImages/{name}.jpg")
        save_label(root / "SegmentationClass", name, mask_of(12))  # dog
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "train.txt").write_text("x\ny\n")
    (lists / "scored.txt").write_text("y\n")
    (root / "tags.csv").write_text("image,tags\nx.jpg,dog\ny.jpg,dog\n")
    data = VocData(format="voc", root=root, val_list="train", tags="tags.csv", classes=("cat", "dog"), **changes)
    return load_split(data, "train", root), load_split(data, "val", root)


def test_voc_masks_get_the_data_sets_numbers(tmp_path):
    train, val = voc(tmp_path, strong_masks="SegmentationClass")
    np.testing.assert_array_equal(train.strong_mask(train.samples[0]), mask_of(2))
    assert val.strong_masks is None  # nobody trains on them


def test_only_listed_training_masks_are_scored(tmp_path):
    train, val = voc(tmp_path, train_mask_list="scored", strong_masks="SegmentationClass")
    x, y = train.samples
    assert train.mask(x) is None and train.mask(y) is not None
    assert train.strong_mask(x) is not None
    assert val.mask(x) is not None  # the list is of training photos
    with pytest.raises(DataError, match="no image list 'scord'"):
        voc(tmp_path, train_mask_list="scord")


def test_coco_shapes_of_a_file_of_their_own(tmp_path):
    write_photo(tmp_path / "one.png")
    write_photo(tmp_path / "two.png")
    images = [{"id": number, "file_name": f"{name}.png", "height": SHAPE[0], "width": SHAPE[1]} for number, name in enumerate(("one", "two"), 1)]
    box = [5, 10, 25, 10, 25, 20, 5, 20]
    tags = {
        "images": images,
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{"id": number, "image_id": number, "category_id": 7, "area": 1} for number in (1, 2)],
    }
    drawn = {  # other numbers for the same photo and category
        "images": [{**images[1], "id": 30}],
        "categories": [{"id": 2, "name": "bird"}, {"id": 4, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 30, "category_id": 4, "area": 1, "segmentation": [box]}],
    }
    for name, content in (("tags", tags), ("drawn", drawn)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    data = CocoData(format="coco", train_json=tmp_path / "tags.json", train_images=tmp_path, strong_masks=tmp_path / "drawn.json")
    dataset = load_split(data, "train", tmp_path).without_masks()
    one, two = dataset.samples
    assert dataset.strong_mask(one) is None
    np.testing.assert_array_equal(dataset.strong_mask(two), mask_of(1))


def test_scenes_have_theirs_on_request(tmp_path):
    data = {"format": "scenes", "train_images": 1, "val_images": 1, "size": 32}
    exact = load_split(ScenesData(**data, strong_masks="exact"), "train", tmp_path)
    np.testing.assert_array_equal(exact.strong_mask(exact.samples[0]), exact.mask(exact.samples[0]))
    assert load_split(ScenesData(**data), "train", tmp_path).strong_masks is None


def test_a_label_folder_still_names_what_it_lacks(folder):
    source = LabelFolder(folder / "drawn")
    with pytest.raises(DataError, match=r"2 of 3 photos have no label file, the first is .*b\.png"):
        source.require(read_folder(folder))


def test_masks_stand_among_made_labels(folder):
    dataset = read_folder(folder).without_masks()
    for name in ("b", "c"):
        save_label(folder / "made", name, mask_of(1))
    source = MixedLabels(StrongMasks(dataset, frozenset({"a"})), LabelFolder(folder / "made"))
    source.require(dataset)  # a needs no made label
    a, b, c = dataset.samples
    assert [source.strong(sample) for sample in (a, b, c)] == [True, False, False]
    np.testing.assert_array_equal(source(a, SHAPE), mask_of(2))
    np.testing.assert_array_equal(source(b, SHAPE), mask_of(1))
    (folder / "made/c.png").unlink()
    with pytest.raises(DataError, match="1 of 2 photos have no label file"):
        source.require(dataset)
