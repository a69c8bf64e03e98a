"""Combinations of tags that somebody wrote with another separator, and names that are none."""

import pytest

from tfwsss.config import FolderData
from tfwsss.data import load_split
from tfwsss.data.tag_spelling import separator_remarks


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["dog,person", "person,dog"], "a comma"),
        (["dog", "dog, cat"], "a comma"),
        (["dog;cat", "cat"], "a semicolon"),
        (["haze primary", "primary", "haze"], "a blank"),
        (["agriculture primary", "primary water", "agriculture water"], "a blank"),
        (["dog/cat", "dog", "cat"], "a slash"),
        (["dog ｜ cat"], 'looks like "|"'),
        (['{"choices":["dog","cat"]}'], "another notation"),
        (["['dog', 'cat']", "dog"], "another notation"),
    ],
)
def test_combinations_are_noticed(tags, expected):
    assert any(expected in remark for remark in separator_remarks(tags))


@pytest.mark.parametrize(
    "tags",
    [["hot dog", "dog"], ["dining table", "potted plant", "tv monitor"], ["and/or", "dog"], ["a, b"], ["red & white", "red"], ["dog", "cat", "person"], []],
)
def test_ordinary_names_are_left_in_peace(tags):
    assert separator_remarks(tags) == ()


def test_the_reader_of_folders_says_so(tmp_path):
    (tmp_path / "tags.csv").write_text('image,tags\n1.jpg,"dog,person"\n2.jpg,dog\n')
    (remark,) = load_split(FolderData(format="folder", root=tmp_path), "train", tmp_path).remarks
    assert remark == "1 tags can be split at a comma into parts that are or occur in other tags; each of them is a class of its own, as only \"|\" separates tags: 'dog,person'"
