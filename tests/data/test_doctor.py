"""The data set doctor finds what is planted, and nothing in a sound data set."""

import json

import numpy as np
import pytest
from PIL import Image

from tfwsss.config import FolderData
from tfwsss.data.doctor import diagnose
from tfwsss.data.formats.folder import read_folder


@pytest.fixture
def examine(tmp_path):
    def examine(require_tags=True, **fields):
        config = FolderData(format="folder", root=tmp_path, val_csv="val.csv", **fields)
        return diagnose(read_folder(config, "train"), read_folder(config, "val"), workers=1, require_tags=require_tags)

    return examine


@pytest.fixture
def sound(write_photo, write_table, write_mask):
    """Three photos to train on and one to score, with masks that agree with the tags."""
    for seed, (name, height, width, drawn) in enumerate(
        [("a", 40, 60, [1]), ("b", 50, 50, [1, 2]), ("c", 60, 40, [2]), ("v", 33, 44, [1, 2])]
    ):
        write_photo(f"{name}.png", height, width, seed)
        label = np.zeros((height, width), np.uint8)
        for row, value in enumerate(drawn):
            label[row] = value
        label[-1] = 255
        write_mask("masks", name, label)
    write_table("a.png,cat", "b.png,cat|dog", "c.png,dog")
    write_table("v.png,cat|dog", name="val.csv")


def only(findings, *words):
    """The one finding with all the words."""
    found = [finding for finding in findings if all(word in finding for word in words)]
    assert len(found) == 1, findings
    return found[0]


def test_sound_data_set(sound, examine):
    diagnosis = examine(mask_folder="masks")
    assert diagnosis.errors == [] and diagnosis.warnings == []
    train = diagnosis.splits["train"]
    assert (train.images, train.usable) == (3, 3)
    assert train.class_counts == {"cat": 2, "dog": 2}
    assert train.co_occurrence == [[2, 1], [1, 2]]
    assert train.tags_per_image == {1: 2, 2: 1}
    assert train.height == (40, 50, 60) and train.width == (40, 50, 60)
    assert train.masks.masks == 3
    assert train.masks.ignored == pytest.approx((60 + 50 + 40) / (2400 + 2500 + 2400))
    assert not any(train.masks.tagged_not_drawn.values()) and not any(train.masks.drawn_not_tagged.values())


def test_text_and_json(sound, examine):
    diagnosis = examine(mask_folder="masks")
    text = diagnosis.render()
    for part in ("train: 3 photos, 3 usable", "cat", "tags a photo: 1: 2, 2: 1", "Errors: none", "masks: 3"):
        assert part in text
    assert max(map(len, text.splitlines())) < 120
    again = json.loads(json.dumps(diagnosis.to_dict()))
    assert again["splits"]["val"]["class_counts"] == {"cat": 1, "dog": 1}


def test_photos_that_cannot_be_used(sound, examine, write_table, tmp_path):
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:900])
    write_table("a.png,cat", "b.png,cat|dog", "c.png,dog", "gone.jpg,dog", "v2.png,")
    (tmp_path / "v2.png").write_bytes((tmp_path / "a.png").read_bytes() + b"x")
    diagnosis = examine()
    assert "c.png" in only(diagnosis.errors, "train: 1 photos left out, cannot be decoded")
    assert "gone.jpg" in only(diagnosis.errors, "train: 1 photos left out, no such file")
    assert "v2" in only(diagnosis.errors, "train: 1 photos left out, no tag")
    train = diagnosis.splits["train"]
    assert (train.images, train.usable) == (5, 2) and train.masks is None


def test_duplicates_and_leaks(sound, examine, write_table, tmp_path):
    for name in ("a2", "a3"):
        (tmp_path / f"{name}.png").write_bytes((tmp_path / "a.png").read_bytes())
    write_table("a.png,cat", "b.png,cat|dog", "c.png,dog", "a2.png,dog")
    write_table("a3.png,cat", "b.png,cat|dog", name="val.csv")
    diagnosis = examine()
    leak = only(diagnosis.errors, "2 photos are in train and in val")
    assert "a = a3" in leak and "b = b" in leak
    assert "a = a2" in only(diagnosis.warnings, "train: 1 photos occur more than once")
    assert "a = a2" in only(diagnosis.errors, "train: 1 equal photos have unequal tags")
    assert "ids are in train and in val: b" in only(diagnosis.errors, "1 ids")
    assert len(diagnosis.errors) == 3


def test_tags(sound, examine, write_table):
    write_table("a.png,cat", "b.png,Cat|wolf", "c.png,wolf")
    write_table("v.png,", name="val.csv")
    diagnosis = examine(classes=("cat", "dog"))
    assert "'wolf' (2), 'Cat' (1)" in only(diagnosis.warnings, "train: tags that are no class")
    assert "Cat, cat" in only(diagnosis.warnings, "differ only by case")
    assert "dog" in only(diagnosis.errors, "train: no photo has the tag")
    assert "cat, dog" in only(diagnosis.warnings, "val: no photo has the tag")
    assert "b, c" in only(diagnosis.errors, "train: 2 photos left out, no tag")
    kept = examine(classes=("cat", "dog"), require_tags=False)
    assert "b, c" in only(kept.warnings, "train: 2 photos without a tag count as background")
    assert "v" in only(diagnosis.warnings, "val: 1 photos without a tag")


def test_masks(sound, examine, write_mask, tmp_path):
    write_mask("masks", "a", np.ones((40, 61)))  # one column too many
    write_mask("masks", "b", np.full((50, 50), 7))  # no such class, and neither tag is drawn
    (tmp_path / "masks/v.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "masks/c.png").unlink()
    diagnosis = examine(mask_folder="masks")
    assert "a (61x40, photo 60x40)" in only(diagnosis.errors, "train: 1 photos have a mask of another size")
    assert "b (7)" in only(diagnosis.errors, "train: 1 photos have mask values that stand for no class")
    assert "v.png" in only(diagnosis.errors, "val: 1 photos have a mask that cannot be read")
    assert "c" in only(diagnosis.warnings, "train: 1 photos have no mask")
    only(diagnosis.warnings, "train: tags and mask disagree in 1 of 2 photos")
    assert diagnosis.splits["train"].masks.tagged_not_drawn == {"cat": 1, "dog": 1}


def test_drawn_but_not_tagged(sound, examine, write_mask):
    write_mask("masks", "a", np.full((40, 60), 2))
    diagnosis = examine(mask_folder="masks")
    masks = diagnosis.splits["train"].masks
    assert masks.tagged_not_drawn == {"cat": 1, "dog": 0} and masks.drawn_not_tagged == {"cat": 0, "dog": 1}


def test_long_lists_are_cut(sound, examine, write_table):
    write_table("a.png,cat", "b.png,dog", *[f"gone{i}.jpg,cat" for i in range(12)])
    diagnosis = examine()
    assert only(diagnosis.errors, "12 photos left out").endswith(" and 7 more")


def test_what_belongs_together_stands_on_both_sides(sound, examine, write_table, tmp_path):
    write_table("a.png,cat,one", "b.png,dog,two", "c.png,dog,", header="image,tags,group")
    write_table("v.png,cat,two", name="val.csv", header="image,tags,group")
    assert "two" in only(examine().errors, "1 groups are in train and in val")
    coarse = Image.fromarray(np.random.default_rng(5).integers(0, 256, (5, 6, 3), np.uint8))
    for name, size in (("a", (60, 40)), ("v", (120, 80))):
        coarse.resize(size, Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    write_table("v.png,cat,", name="val.csv", header="image,tags,group")
    diagnosis = examine()
    assert "v ~ a" in only(diagnosis.warnings, "val: 1 photos look like one of train")
    assert not [error for error in diagnosis.errors if "train and in val" in error]


def test_unknown_tags_have_a_column(sound, examine, write_table):
    write_table("a.png,cat|?dog", "b.png,dog", "c.png,cat")
    diagnosis = examine()
    assert diagnosis.splits["train"].unknown == {"cat": 0, "dog": 1}
    assert "class  photos  unknown" in diagnosis.render() and "dog         1        1" in diagnosis.render()


def test_what_is_drawn_and_unknown_is_no_disagreement(sound, examine, write_mask, write_table):
    write_table("a.png,cat|?dog", "b.png,cat|dog", "c.png,dog")
    write_mask("masks", "a", np.where(np.arange(60) < 30, 2, 1) * np.ones((40, 1)))
    assert not [warning for warning in examine(mask_folder="masks").warnings if "train: tags and mask disagree" in warning]
