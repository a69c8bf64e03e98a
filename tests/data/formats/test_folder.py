"""A folder of photos and a table of tags: what people's tables look like, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.config import FolderData
from tfwsss.data import load_split
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.formats.folder import read_folder
from tfwsss.data.tag_table import read_tag_table
from tfwsss.errors import DataError


@pytest.fixture
def read(tmp_path):
    def read(split="train", **fields):
        return read_folder(FolderData(format="folder", root=tmp_path, **fields), split)

    return read


def tags_of(dataset):
    return {s.id: tuple(dataset.classes[tag] for tag in s.tags) for s in dataset.samples}


def test_tags_become_positions_in_the_sorted_classes(read, write_table, tmp_path):
    write_table("b/one.jpg,sheep|dog", "two.png,dog", "three.x.jpeg,")
    dataset = read()
    assert dataset.classes == ("dog", "sheep")
    assert dataset.samples == (
        Sample("b/one", tmp_path / "b/one.jpg", (0, 1)),
        Sample("two", tmp_path / "two.png", (0,)),
        Sample("three.x", tmp_path / "three.x.jpeg", ()),
    )
    np.testing.assert_array_equal(dataset.tag_matrix(), np.float32([[1, 1], [1, 0], [0, 0]]))
    assert dataset.tag_matrix().dtype == np.float32 and dataset.num_classes == 2
    assert dataset.masks is None and dataset.mask(dataset.samples[0]) is None
    assert read("val") is None


def test_tables_from_excel_and_windows(read, tmp_path):
    text = '\ufefftags,note,image\r\n"dog| cat |dog","said ""hi"", twice",farm\\a photo.jpg\r\n\r\n ,,"b,1.jpg"\r\n'
    (tmp_path / "tags.csv").write_bytes(text.encode())
    dataset = read()
    assert tags_of(dataset) == {"farm/a photo": ("cat", "dog"), "b,1": ()}
    assert dataset.samples[0].image == tmp_path / "farm/a photo.jpg"


def test_given_classes_fix_the_order_and_drop_other_tags(read, write_table):
    write_table("a.jpg,dog|wolf", "b.jpg,wolf", "c.jpg,cat|dog|fox")
    dataset = read(classes=("dog", "cat"))
    assert dataset.classes == ("dog", "cat")
    assert [s.tags for s in dataset.samples] == [(0,), (), (0, 1)]
    assert dataset.unknown_tags == (("fox", 1), ("wolf", 2))


def test_classes_come_from_the_training_table_alone(read, write_table):
    write_table("a.jpg,dog")
    write_table("b.jpg,dog|emu", name="val.csv")
    val = read("val", val_csv="val.csv")
    assert val.classes == ("dog",) and val.samples[0].tags == (0,)
    assert val.unknown_tags == (("emu", 1),)


def test_held_out_part_is_stable_when_photos_are_added(read, write_table):
    names = [f"p{i}.jpg,dog" for i in range(400)]
    write_table(*names[:200])
    first = {s.id for s in read("val", val_fraction=0.25).samples}
    write_table(*reversed(names))
    val = {s.id for s in read("val", val_fraction=0.25).samples}
    train = {s.id for s in read("train", val_fraction=0.25).samples}
    assert first <= val and not (train & val) and len(train | val) == 400
    assert 60 <= len(val) <= 140


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.jpg,dog", "../b.jpg,dog"], r"tags\.csv, line 3: '\.\./b\.jpg' leaves the data set's folder"),
        (["x/../../b.jpg,dog"], r"line 2: .* leaves"),
        (["x\\..\\..\\b.jpg,dog"], r"line 2: .* leaves"),
        (["/etc/passwd,dog"], r"line 2: '/etc/passwd' leaves"),
        (["C:\\photos\\b.jpg,dog"], r"line 2: .* leaves"),
        ([",dog"], r"line 2: '' is not the path of a file"),
        (["a.jpg,dog,cat"], r"line 2: 3 fields, expected 2 \(image,tags\)"),
        (["a.jpg"], r"line 2: 1 fields, expected 2"),
        (["a.jpg,dog", "", "a.jpg,cat"], r"line 4: a\.jpg stands already in line 2"),
        (["f/a.jpg,dog", "f/a.png,cat"], r"line 3: f/a\.png and f/a\.jpg \(line 2\) differ only by suffix"),
        (['"a.jpg,dog'], r"line 2: not valid CSV"),
        ([], r"tags\.csv: no rows"),
        (["a.jpg,"], r"no classes: no photo has a tag"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(read, write_table, lines, message):
    write_table(*lines)
    with pytest.raises(DataError, match=message):
        read()


def test_bad_tables(read, write_table, tmp_path):
    with pytest.raises(DataError, match=r"tags\.csv: no such file"):  # an empty folder
        read()
    write_table("a.jpg;dog", header="image;tags")
    with pytest.raises(DataError, match=r"line 1: expected the columns image,tags .* found image;tags"):
        read()
    (tmp_path / "tags.csv").write_bytes(b"")
    with pytest.raises(DataError, match="line 1: .* found an empty file"):
        read()
    write_table("ä.jpg,dog", encoding="latin-1")
    with pytest.raises(DataError, match="not UTF-8 at byte 11"):
        read()


def test_bad_configuration(read, write_table, tmp_path):
    write_table("a.jpg,dog")
    with pytest.raises(DataError, match=r"data\.root: .*nowhere is not a folder"):
        read_folder(FolderData(format="folder", root=tmp_path / "nowhere"), "train")
    with pytest.raises(DataError, match=r"data\.classes: dog given more than once"):
        read(classes=("dog", "cat", "dog"))
    with pytest.raises(DataError, match=r"data\.mask_folder: .*masks is not a folder"):
        read(mask_folder="masks")
    with pytest.raises(DataError, match=r"255 classes, expected at most 254"):
        read(classes=tuple(f"c{i}" for i in range(255)))
    with pytest.raises(DataError, match=r"val_fraction=1e-09 leaves no photo for 'val'"):
        read("val", val_fraction=1e-9)


def test_masks_are_found_by_id_and_their_unknown_values_ignored(read, write_table, write_mask):
    write_table("f/a.jpg,dog|cat", "b.jpg,dog")
    write_mask("masks", "f/a", [[0, 1, 2], [3, 254, 255]])
    dataset = read(mask_folder="masks")
    np.testing.assert_array_equal(dataset.mask(dataset.samples[0]), [[0, 1, 2], [255, 255, 255]])
    assert dataset.masks.unknown_values(dataset.samples[0]) == (3, 254)
    assert dataset.mask(dataset.samples[1]) is None
    assert dataset.without_masks().mask(dataset.samples[0]) is None


def test_subset_keeps_order_and_refuses_unknown_ids():
    samples = tuple(Sample(name, Path(name), (0,)) for name in "abcd")
    dataset = Dataset(("dog",), samples)
    assert [s.id for s in dataset.subset(["d", "a"]).samples] == ["a", "d"]
    with pytest.raises(DataError, match="1 of 2 ids are not in the data set, the first is 'e'"):
        dataset.subset(["a", "e"])


def test_load_split_reads_the_photo(tmp_path, write_table, write_photo):
    write_photo("x/a.png", 33, 35)
    write_table("x/a.png,dog")
    dataset = load_split(FolderData(format="folder", root=tmp_path), "train", tmp_path)
    assert dataset.read(dataset.samples[0]).shape == (33, 35, 3)


@settings(max_examples=100, deadline=None)
@given(image=st.text(max_size=12), tags=st.text(max_size=12))
def test_no_row_ever_leads_outside_the_folder(image, tags, tmp_path_factory):
    import csv

    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows([("image", "tags"), (image, tags)])
    try:
        rows = read_tag_table(path)
    except DataError as error:
        assert str(path) in str(error)
        return
    root = Path("/data/root")
    for row in rows:
        assert (root / row.image).resolve().is_relative_to(root)
        assert (root / (row.id + ".npz")).resolve().is_relative_to(root)
        assert list(row.tags) == sorted(set(row.tags)) and "" not in row.tags
