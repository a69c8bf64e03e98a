"""Classes that count as one, in tags and in masks of every kind."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfwsss.config import FolderData, ScenesData
from tfwsss.config.files import load_config
from tfwsss.data import load_split
from tfwsss.data.check import inspect_images
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.mask_check import examine_masks
from tfwsss.data.merging import merge_classes
from tfwsss.errors import DataError
from tfwsss.exchange.strong_masks import strong_target

CLASSES = ("blowhole", "crack", "dirt", "fray")
GROUPS = {"defect": ("blowhole", "crack", "fray")}


@pytest.fixture
def folder(tmp_path, write_photo, write_table, write_mask):
    rows = ("a.png,crack", "b.png,dirt|fray", "c.png,", "d.png,?crack|dirt", "e.png,?crack|blowhole")
    for row in rows:
        write_photo(row.split(",")[0], seed=ord(row[0]))
    write_table(*rows)
    mask = np.zeros((40, 48))
    mask[:10], mask[10:20], mask[20:30] = 1, 3, 4
    mask[39] = 255
    for place in ("drawn", "scores"):
        write_mask(place, "b", mask)
    return tmp_path


def read(root, **changes):
    settings = {"classes": CLASSES, "merge": GROUPS, "mask_folder": "scores", "strong_masks": "drawn", "untagged": "background"}
    return load_split(FolderData(format="folder", root=root, **settings | changes), "train", root)


def test_tags_and_masks(folder):
    dataset = read(folder)
    assert dataset.classes == ("defect", "dirt")
    assert [(sample.tags, sample.unknown) for sample in dataset.samples] == [((0,), ()), ((0, 1), ()), ((), ()), ((1,), (0,)), ((0,), ())]
    for mask in (dataset.mask(dataset.samples[1]), dataset.strong_mask(dataset.samples[1])):
        assert [mask[row, 0] for row in (0, 10, 20, 30, 39)] == [1, 2, 1, 0, 255]
    assert dataset.mask(dataset.samples[0]) is None
    assert dataset.without_masks().mask(dataset.samples[1]) is None


def test_masks_are_checked_with_the_merged_classes(folder):
    dataset = read(folder)
    findings = examine_masks(dataset, inspect_images(dataset, 1))
    assert findings.report.masks == 1 and findings.disagreeing == 0


def test_masks_that_are_no_files(tmp_path):
    apart, merged = (
        load_split(ScenesData(format="scenes", train_images=6, size=48, strong_masks="exact", merge=merge), "train", tmp_path)
        for merge in ({}, {"thing": ("car", "fish")})
    )
    assert len(merged.classes) == len(apart.classes) - 1
    for one, other in zip(apart.samples, merged.samples, strict=True):
        names = {"thing" if apart.classes[tag] in ("car", "fish") else apart.classes[tag] for tag in one.tags}
        assert {merged.classes[tag] for tag in other.tags} == names
        for before, after in ((apart.mask(one), merged.mask(other)), (apart.strong_mask(one), merged.strong_mask(other))):
            for label, name in enumerate(apart.classes, 1):
                new = "thing" if name in ("car", "fish") else name
                assert (after[before == label] == merged.classes.index(new) + 1).all()
            assert (after[before == 0] == 0).all()


@given(st.data())
def test_what_is_known_of_a_merged_class(data):
    """Present where a member is; else unknown where a member is; else absent: whatever the members' order."""
    count = data.draw(st.integers(2, 6))
    states = data.draw(st.lists(st.sampled_from("+?-"), min_size=count, max_size=count))
    members = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    sample = Sample("a", None, tuple(i for i, s in enumerate(states) if s == "+"), tuple(i for i, s in enumerate(states) if s == "?"))
    dataset = Dataset(tuple("abcdef"[:count]), (sample,))
    merged = merge_classes(dataset, {"all": ["abcdef"[i] for i in members]})
    found = {states[i] for i in members}
    expected = "+" if "+" in found else "?" if "?" in found else "-"
    position = merged.classes.index("all")
    assert ("+" if position in merged.samples[0].tags else "?" if position in merged.samples[0].unknown else "-") == expected
    for index in set(range(count)) - members:
        position = merged.classes.index("abcdef"[index])
        assert (position in merged.samples[0].tags) == (states[index] == "+") and (position in merged.samples[0].unknown) == (states[index] == "?")


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ({"defect": ("crack", "scratch")}, "data.merge.defect: 'scratch' is no class of the data set, which has blowhole, crack, dirt, fray"),
        ({"x": ("crack",), "y": ("crack", "dirt")}, "data.merge: 'crack' is a member of 'x' and of 'y'"),
        ({"dirt": ("crack", "fray")}, "data.merge.dirt: a class has this name and is not among the members"),
        ({"background": ("crack", "fray")}, "background"),
    ],
)
def test_groups_that_cannot_be(folder, merge, message):
    with pytest.raises(DataError, match=message.replace(".", r"\.")):
        read(folder, merge=merge)


def test_a_class_may_be_called_like_one_of_its_members(folder):
    assert read(folder, merge={"crack": ("crack", "blowhole")}).classes == ("crack", "dirt", "fray")


def test_corrected_masks_of_merged_classes_have_no_place(folder):
    data = FolderData(format="folder", root=folder, merge=GROUPS, strong_masks="drawn")
    with pytest.raises(DataError, match="data.merge"):
        strong_target(data, ("defect", "dirt"), None)


def test_in_yaml(folder):
    path = folder / "c.yaml"
    path.write_text(f"data: {{format: folder, root: {folder}, merge: {{defect: [crack, blowhole]}}}}\n")
    config = load_config(path, [])
    assert dataclasses.asdict(load_split(config.data, "train", folder))["classes"] == ("defect", "dirt", "fray")
