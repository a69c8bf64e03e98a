"""Names are data: Unicode forms, names as long as the file system allows, names that results cannot have."""

import unicodedata

import pytest
from PIL import Image

from tfwsss.config import CocoData, FolderData, VocData
from tfwsss.data import load_split
from tfwsss.data.check import check_images
from tfwsss.data.names import existing, unusable_ids
from tfwsss.errors import DataError
from tfwsss.storage.artifacts import load_cam, save_cam

C, D = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def photo(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((40, 40), 60).convert("RGB").save(path, **options)


def folder(root, rows, **fields):
    (root / "tags.csv").write_text("image,tags\n" + "".join(f"{name},{tags}\n" for name, tags in rows), encoding="utf-8")
    return load_split(FolderData(format="folder", root=root, **fields), "train", root)


@pytest.mark.parametrize("table", [C, D])
@pytest.mark.parametrize("disk", [C, D])
def test_photos_and_masks_are_found_in_any_form(tmp_path, table, disk):
    photo(tmp_path / f"{disk}t{disk}/caf{disk}.jpg")
    mask = tmp_path / f"masks/{D}t{C}/caf{D}.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (40, 40), 1).save(mask)
    dataset = folder(tmp_path, [(f"{table}t{table}/caf{table}.jpg", f"b{table}te")], mask_folder="masks")
    assert dataset.classes == (f"b{C}te",) and dataset.samples[0].id == f"{C}t{C}/caf{C}"
    assert check_images(dataset, 1)[0] == []
    assert dataset.mask(dataset.samples[0]).max() == 1
    assert bool(dataset.remarks) == (table != disk)


def test_tags_that_differ_by_form_are_one_and_it_is_said(tmp_path):
    dataset = folder(tmp_path, [("1.jpg", f"b{C}te"), ("2.jpg", f"b{D}te"), ("3.jpg", f"b{C}te|b{D}te")])
    assert dataset.classes == (f"b{C}te",) and all(sample.tags == (0,) for sample in dataset.samples)
    assert dataset.remarks == (f"tags that differ only by Unicode form (NFC, NFD) are taken as one: 'b{C}te'",)
    assert folder(tmp_path, [("1.jpg", f"b{C}te")], classes=(f"b{D}te",)).samples[0].tags == (0,)
    with pytest.raises(DataError, match="given more than once"):
        folder(tmp_path, [("1.jpg", f"b{C}te")], classes=(f"b{D}te", f"b{C}te"))


def test_photos_that_differ_by_form_would_share_their_results(tmp_path):
    with pytest.raises(DataError, match="differ only by"):
        folder(tmp_path, [(f"{C}.jpg", "a"), (f"{D}.jpg", "a")])


def test_coco_and_voc_know_the_forms_too(tmp_path):
    import json

    photo(tmp_path / f"{D}.jpg")
    content = {
        "images": [{"id": 1, "file_name": f"{C}.jpg", "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": f"b{D}te"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]], "area": 50, "iscrowd": 0}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    dataset = load_split(CocoData(format="coco", train_json=tmp_path / "coco.json", train_images=tmp_path, classes=(f"b{C}te",)), "train", tmp_path)
    assert dataset.samples[0].tags == (0,) and check_images(dataset, 1)[0] == []

    voc = tmp_path / "VOC"
    photo(voc / f"JPEGImages/{D}.jpg")
    (voc / "Annotations").mkdir()
    (voc / f"Annotations/{D}.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    (voc / "list.txt").write_text(f"{C}\n", encoding="utf-8")
    dataset = load_split(VocData(format="voc", root=voc, train_list="list.txt", val_list=None, classes=("dog",)), "train", tmp_path)
    assert dataset.samples[0].tags == (0,) and check_images(dataset, 1)[0] == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Holiday 2020 (0)", "Holiday 2020 (0)"),
        ("Holiday 2020", "Holiday 2020"),
        ("Holiday 2020  1", "Holiday 2020"),
        ("Holiday 2020 -1", "Holiday 2020"),
        ("Holiday 0", "Holiday 0"),
        ("  2007_000032\t", "2007_000032"),
        ("2007_000032 SegmentationClass/2007_000032.png", "2007_000032"),
        ("/JPEGImages/Holiday 2020.jpg /SegmentationClassAug/Holiday 2020.png", "Holiday 2020"),
        ("/JPEGImages/2007_000032.jpg", "2007_000032"),
        ("no such photo", "no such photo"),
    ],
)
def test_blanks_in_the_lists_of_voc(tmp_path, line, expected):
    for name in ("Holiday 2020 (0)", "Holiday 2020", "2007_000032", "Holiday"):
        photo(tmp_path / f"JPEGImages/{name}.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/Holiday 0.xml").write_text("<annotation/>")
    (tmp_path / "list.txt").write_text(line + "\n")
    dataset = load_split(VocData(format="voc", root=tmp_path, train_list="list.txt", val_list=None), "train", tmp_path)
    assert [(sample.id, sample.image.name) for sample in dataset.samples] == [(expected, f"{expected}.jpg")]


def test_names_as_long_as_the_file_system_allows(tmp_path):
    names = ["x" * 251, "猫" * 83, "y" * 252]
    for name, suffix in zip(names, (".jpg", ".jpg", ".jp"), strict=True):
        photo(tmp_path / f"{name}{suffix}", format="JPEG")
    dataset = folder(tmp_path, [(f"{names[0]}.jpg", "a"), (f"{names[1]}.jpg", "a"), (f"{names[2]}.jp", "a"), ("z" * 300 + ".jpg", "a")])
    problems, usable = check_images(dataset, 1)
    assert [(problem.id[0], problem.reason.split(":")[0]) for problem in problems] == [("y", "name too long"), ("z", "cannot be decoded")]
    for image_id in usable:
        save_cam(tmp_path / "cams", image_id, [0], [[[[0.5]]]], (1, 1))
        assert load_cam(tmp_path / "cams", image_id)[1].item() == 0.5


def test_names_that_are_both_file_and_folder_or_temporary():
    temporary = f".tfwsss-{'0' * 32}.tmp"
    ids = ["a", "a.npz/b", "a.png/c/d", "a.jpg/e", "b/a", "a.npz.npz/f", temporary, f"x/{temporary}/y", ".a.1234.tmp"]
    reasons = unusable_ids(ids)
    assert {image_id: reason.split(":")[0] for image_id, reason in reasons.items()} == {
        "a.npz/b": "name in the way",
        "a.png/c/d": "name in the way",
        temporary: "name reserved",
        f"x/{temporary}/y": "name reserved",
    }


def test_what_is_not_there_keeps_its_name(tmp_path):
    for name in ("plain", f"{C}/{D}", "z" * 300, "ü" * 200):
        assert existing(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize("text", ["\ud800.jpg", "a\0.jpg"])
def test_what_no_file_can_be_called(tmp_path, text):
    import json

    content = {"images": [{"id": 1, "file_name": text, "height": 1, "width": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not the path of a file"):
        load_split(CocoData(format="coco", train_json=tmp_path / "coco.json", train_images=tmp_path), "train", tmp_path)


@pytest.mark.parametrize("name", ["background", "", " cat"])
def test_names_that_no_class_can_have(tmp_path, name):
    with pytest.raises(DataError, match="label 0 is called|is empty or begins or ends with a blank"):
        folder(tmp_path, [("1.jpg", "cat")], classes=("cat", name))
    if name == "background":
        with pytest.raises(DataError, match="data.untagged: background"):
            folder(tmp_path, [("1.jpg", "cat"), ("2.jpg", name)])
