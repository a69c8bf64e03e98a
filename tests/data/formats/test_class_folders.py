"""A folder for each class: with and without splits, photos of several classes, classes that mean none."""

import pytest

from tests.data.formats.conftest import tags_of
from tfwsss.data.recognition import recognise
from tfwsss.errors import DataError


@pytest.fixture
def photos(write_photo):
    for number, name in enumerate(("dog/a", "dog/deep/b", "cat/c", "ok/d", "ok/e")):
        write_photo(f"photos/{name}.png", seed=number)


def test_folders_are_tags_and_one_of_them_is_none(photos, tmp_path, read_data):
    found = recognise(tmp_path / "photos")
    assert found.data == {"format": "class_folders", "root": tmp_path / "photos", "train_folder": ".", "none": ["ok"]}
    dataset = read_data(found.data)
    assert dataset.classes == ("cat", "dog")
    assert tags_of(dataset) == {"a": ["dog"], "b": ["dog"], "c": ["cat"], "d": [], "e": []}
    assert [sample.id for sample in dataset.samples] == ["cat/c", "dog/a", "dog/deep/b", "ok/d", "ok/e"]
    assert dataset.known_matrix().all() and dataset.remarks == ()
    assert read_data(found.data | {"none": ()}).classes == ("cat", "dog", "ok")


def test_none_is_known_even_where_unlisted_classes_are_not(photos, tmp_path, read_data):
    dataset = read_data(recognise(tmp_path / "photos").data | {"unlisted": "unknown"})
    known = dict(zip((sample.id for sample in dataset.samples), dataset.known_matrix().tolist(), strict=True))
    assert known["ok/d"] == [1, 1] and known["dog/a"] == [0, 1]


def test_the_same_photo_in_two_folders_has_two_tags(photos, tmp_path, read_data):
    (tmp_path / "photos/cat/copy.png").write_bytes((tmp_path / "photos/dog/a.png").read_bytes())
    (tmp_path / "photos/dog/twice.png").write_bytes((tmp_path / "photos/dog/deep/b.png").read_bytes())
    dataset = read_data(recognise(tmp_path / "photos").data)
    assert tags_of(dataset) == {"copy": ["cat", "dog"], "b": ["dog"], "twice": ["dog"], "c": ["cat"], "d": [], "e": []}
    assert dataset.remarks == ("1 photos lie in more than one class's folder, byte for byte: each is one photo with several tags",)


def test_a_photo_of_none_and_of_a_class(photos, tmp_path, read_data):
    (tmp_path / "photos/ok/x.png").write_bytes((tmp_path / "photos/dog/a.png").read_bytes())
    dataset = read_data(recognise(tmp_path / "photos").data)
    assert tags_of(dataset)["a"] == ["dog"] and "1 photos have a tag of data.none and a class, such as 'dog/a'" in "".join(dataset.remarks)


@pytest.mark.parametrize("asked", [".", "train"])
def test_splits_are_the_first_level(write_photo, tmp_path, read_data, asked):
    for number, name in enumerate(("train/dog/a", "train/cat/b", "valid/dog/c", "valid/cat/d")):
        write_photo(f"{name}.png", seed=number)
    found = recognise(tmp_path / asked)
    assert found.data == {"format": "class_folders", "root": tmp_path, "train_folder": "train", "val_folder": "valid"}
    assert tags_of(read_data(found.data, "val")) == {"c": ["dog"], "d": ["cat"]}
    assert read_data(found.data).samples[0].id == "train/cat/b"


def test_photos_beside_the_folders_are_passed_over_and_it_is_said(photos, tmp_path, read_data, write_photo):
    write_photo("photos/loose.png")
    assert read_data(recognise(tmp_path / "photos").data).remarks == (f"1 files in {tmp_path / 'photos'} itself, in no class's folder, are passed over",)


def test_what_is_no_data_set(write_photo, tmp_path, read_data):
    write_photo("x/images/a.png")
    write_photo("x/masks/a.png")
    with pytest.raises(DataError, match="2 photos and nothing that says what is on them"):
        recognise(tmp_path / "x")
    (tmp_path / "empty/dog").mkdir(parents=True)
    with pytest.raises(DataError, match="empty: no folders with photos, expected one for each class"):
        read_data({"format": "class_folders", "root": tmp_path / "empty"})
    with pytest.raises(DataError, match="gone is not a folder"):
        read_data({"format": "class_folders", "root": tmp_path, "train_folder": "gone"})


def test_two_photos_that_differ_by_suffix(photos, tmp_path, read_data, write_photo):
    write_photo("photos/dog/a.jpg", seed=9)
    with pytest.raises(DataError, match="a.png and dog/a.jpg differ only by suffix"):
        read_data(recognise(tmp_path / "photos").data)
