"""Files as the tools themselves write them, recognised and read; and what is wrong with damaged ones, in one line."""

import gzip
import json
import struct

import pytest
from PIL import Image

from tests.data.formats.conftest import FIXTURES, tags_of, unknown_of
from tfwsss.data.check import check_images
from tfwsss.data.formats.tfrecord import example, records
from tfwsss.data.recognition import recognise
from tfwsss.errors import DataError

DRAWN = {"one": ["disc"], "two": ["disc", "square"], "three": [], "four": ["square"]}
FIRST = {"one": ["disc"], "two": ["disc"], "three": [], "four": ["square"]}
# folder or file -> (format, classes, tags)
WRITTEN = {
    "cvat": ("cvat", ("square", "disc"), DRAWN),
    "coco_boxes": ("coco", ("square", "disc"), DRAWN),
    "fiftyone/several": ("fiftyone", ("square", "disc"), DRAWN),
    "fiftyone/single": ("fiftyone", ("square", "disc"), FIRST),
    "hf_metadata/csv": ("folder", ("disc", "square"), DRAWN),
    "hf_metadata/jsonl": ("folder", ("disc", "square"), DRAWN),
    "parquet": ("parquet", ("square", "disc"), DRAWN),
    "tfrecord/train.tfrecord": ("tfrecord", ("disc", "square"), DRAWN),
    "tfrecord/packed.tfrecord": ("tfrecord", ("disc", "square"), DRAWN),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_tool_has_written_is_recognised_and_read(name, read_data):
    found = recognise(FIXTURES / name)
    format, classes, tags = WRITTEN[name]
    assert found.data["format"] == format and found.says
    dataset = read_data(found.data)
    assert dataset.classes == classes
    assert {key: sorted(names) for key, names in tags_of(dataset).items()} == tags
    assert unknown_of(dataset) == {} and dataset.masks is None
    problems, _ = check_images(dataset, 1)
    assert not problems and read_data(found.data, "val") is None
    with Image.open(dataset.samples[0].image) as photo:
        assert photo.size == (40, 32)


def test_label_studio_knows_what_is_unknown(read_data):
    found = recognise(FIXTURES / "label_studio")
    dataset = read_data(found.data)
    # Two: one annotator has seen the square, the other has not. Five has no annotation.
    assert tags_of(dataset) == {"one": ["disc"], "two": ["disc"], "three": [], "four": ["square"]}
    assert unknown_of(dataset) == {"two": ["square"]}
    assert dataset.samples[0].image == FIXTURES / "label_studio/one.png"  # not the name with Label Studio's prefix
    assert [remark.split(" ")[0] for remark in dataset.remarks] == ["1", "1", "annotators"]
    with pytest.raises(DataError, match="no task with an annotation|the data set has no classes"):
        read_data({**found.data, "control": "other"})


def test_open_images_has_verified_negatives_and_unknown_classes(read_data):
    found = recognise(FIXTURES / "open_images/annotations", photos=FIXTURES / "open_images/images/default")
    assert found.data["layout"] == "long" and found.data["confidence_column"] == "Confidence" and found.data["unlisted"] == "unknown"
    assert found.data["suffix"] == ".png"
    dataset = read_data(found.data)
    assert {key: sorted(names) for key, names in tags_of(dataset).items()} == DRAWN
    assert unknown_of(dataset) == {"one": ["square"], "three": ["square"], "four": ["disc"]}  # three has no disc for certain


def test_boxes_give_tags_and_nothing_to_score(read_data):
    dataset = read_data(recognise(FIXTURES / "coco_boxes").data)
    assert dataset.masks is None and all(dataset.mask(sample) is None for sample in dataset.samples)
    assert dataset.remarks == ("3 of 4 photos have objects with a box but no outline: they have no mask and are not scored",)


def test_a_part_of_a_coco_file_is_held_out(read_data):
    data = {**recognise(FIXTURES / "coco_boxes").data, "val_fraction": 0.5}
    train, val = (set(tags_of(read_data(data, split))) for split in ("train", "val"))
    assert train and val and train | val == set(DRAWN) and not train & val


def test_photos_are_unpacked_once_and_anew_when_the_file_changes(fixture_copy, read_data):
    folder = fixture_copy("tfrecord")
    data = {"format": "tfrecord", "root": folder, "train_files": "train.tfrecord", "val_files": "packed.tfrecord", "id_field": "image/filename"}
    train, val = read_data(data), read_data(data, "val")
    assert [sample.id for sample in train.samples] == ["train/one", "train/two", "train/three", "train/four"]
    assert [sample.id for sample in val.samples] == ["val/one", "val/two", "val/three", "val/four"]
    before = train.samples[0].image.stat().st_mtime_ns
    assert read_data(data).samples[0].image.stat().st_mtime_ns == before
    (train.samples[0].image.parent / "mine.txt").write_text("mine")
    numbers = read_data({**data, "tags_field": "image/class/label", "label_names": ["square", "disc"]})
    assert tags_of(numbers)["one"] == ["disc"] and numbers.samples[0].image.stat().st_mtime_ns != before
    assert numbers.classes == ("square", "disc")
    assert (train.samples[0].image.parent / "mine.txt").read_text() == "mine"  # what somebody has put there stays


def test_a_folder_that_nothing_was_unpacked_to_is_left_alone(tmp_path, read_data):
    theirs = tmp_path / "work/unpacked/train/mine.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(DataError, match="nothing was unpacked there; move it away"):
        read_data(recognise(FIXTURES / "parquet").data)
    assert theirs.read_text() == "mine"


def edited(folder, name, change):
    path = folder / name
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


DAMAGED = {
    "cvat": [
        (lambda f: (f / "default.xml").write_text("<annotations><image"), "not valid XML"),
        (lambda f: (f / "default.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'), "document type declaration, which is refused"),
        (lambda f: (f / "default.xml").write_text("<annotations><version>1.1</version><track id='0'/></annotations>"), "CVAT for video; export it as CVAT for images"),
        (lambda f: (f / "default.xml").write_text("<annotations><image id='0' name='one.png'><box/></image></annotations>"), "image 0: a box without a label"),
        (lambda f: (f / "default.xml").write_text("<annotations><image id='0'/></annotations>"), "image 0: has no name"),
        (lambda f: (f / "default.xml").unlink(), "no such file, expected CVAT's annotations.xml"),
    ],
    "fiftyone/several": [
        (lambda f: (f / "labels.json").write_text("{"), "not valid JSON"),
        (lambda f: edited(f, "labels.json", lambda v: v["labels"].update(one=[7])), "labels.json, one: '7' is no label"),
        (lambda f: edited(f, "labels.json", lambda v: {"labels": 3}), "not FiftyOne's labels.json"),
        (lambda f: (f / "data/one.png").unlink(), "labels.json, one: no photo of this name"),
    ],
    "label_studio": [
        (lambda f: (f / "export.json").write_text("[{}]"), "not Label Studio's JSON"),
        (lambda f: edited(f, "export.json", lambda v: v[0]["annotations"][0].update(result=None)), "task 1: an annotation without the list `result`"),
        (lambda f: edited(f, "export.json", lambda v: v[0]["data"].update(image="none", other=3)), "task 1: 0 texts in data end like a photo"),
        (lambda f: edited(f, "export.json", lambda v: v[0]["annotations"][0]["result"][0]["value"].update(choices="disc")), "task 1: choices: expected a list of texts"),
    ],
    "parquet": [
        (lambda f: (f / "data/train-00000-of-00001.parquet").write_bytes(b"PAR1"), "not a Parquet file"),
        (lambda f: (f / "data/train-00000-of-00001.parquet").unlink(), "no such file"),
    ],
    "tfrecord": [
        (lambda f: (f / "train.tfrecord").write_bytes((f / "train.tfrecord").read_bytes()[:-9]), "example 3: the file ends inside it"),
        (lambda f: (f / "train.tfrecord").write_bytes(b"\xff" * 40), "example 0: damaged, or not a TFRecord file"),
        (lambda f: (f / "train.tfrecord").write_bytes(struct.pack("<Q", 3) + bytes(4) + b"abc" + bytes(4)), "example 0: not a tf.train.Example"),
        (lambda f: (f / "train.tfrecord").write_bytes(gzip.compress(b"x" * 30)[:-9]), "train.tfrecord: cannot be read|example 0"),
    ],
    "coco_boxes": [
        (lambda f: (f / "annotations/instances_default.json").write_text("[]"), "not a COCO instances file"),
    ],
}


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, cases in DAMAGED.items() for number in range(len(cases))])
def test_damaged_files_are_named_in_one_line(fixture_copy, read_data, name, number):
    damage, message = DAMAGED[name][number]
    folder = fixture_copy(name)
    data = recognise(folder / "train.tfrecord" if name == "tfrecord" else folder).data
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        read_data(data)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_columns_and_fields_that_are_not_there(read_data):
    with pytest.raises(DataError, match="no column 'photo', found image, labels"):
        read_data({**recognise(FIXTURES / "parquet").data, "image_field": "photo"})
    with pytest.raises(DataError, match=r"'photo' \(data.image_field\) is no photo; fields are image/class/label, "):
        read_data({**recognise(FIXTURES / "tfrecord/train.tfrecord").data, "image_field": "photo"})
    with pytest.raises(DataError, match=r"label 1, expected 0..0"):
        read_data({**recognise(FIXTURES / "parquet").data, "label_names": ["square"]})
    with pytest.raises(DataError, match="leaves the data set's folder"):
        read_data({**recognise(FIXTURES / "parquet").data, "train_files": "../*"})


def test_examples_are_what_tensorflow_wrote():
    """Beside the fixture's own tags: negative numbers, floats, unpacked lists."""
    first = example(next(records(FIXTURES / "tfrecord/train.tfrecord")), "x")
    assert first["score"] == [0.5, -1.0] and first["image/height"] == [32] and first["image/filename"] == [b"one.png"]
    minus_one = b"\xff" * 9 + b"\x01"
    entry = b"\x0a\x01n\x12\x0d\x1a\x0b\x08" + minus_one  # Int64List with one unpacked value
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert example(b"\x0a" + bytes([len(features)]) + features, "x") == {"n": [-1]}


def test_names_that_may_be_several_photos(tmp_path, read_data):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 32)).save(tmp_path / folder / "one.png")
    (tmp_path / "x.xml").write_text("<annotations><image id='0' name='one.png'><tag label='disc'/></image></annotations>")
    data = {"format": "cvat", "root": tmp_path, "train_file": "x.xml"}
    with pytest.raises(DataError, match="'one.png' may be a/one.png or b/one.png"):
        read_data(data)
    (tmp_path / "x.xml").write_text("<annotations><image id='0' name='job/b/one.png'><tag label='disc'/></image></annotations>")
    assert read_data(data).samples[0].id == "b/one"
