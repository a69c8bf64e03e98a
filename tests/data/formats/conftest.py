"""Files that other tools have written, see tests/data/fixtures/README.md."""

import shutil
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tfwsss.config import Data
from tfwsss.data import load_split

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def fixture_copy(tmp_path):
    """fixture_copy(name): a copy of a folder of fixtures that a test may damage."""

    def copy(name):
        return Path(shutil.copytree(FIXTURES / name, tmp_path / Path(name).name))

    return copy


@pytest.fixture
def read_data(tmp_path):
    """read_data({fields of data}, split="train"): the split."""

    def read(fields, split="train"):
        return load_split(TypeAdapter(Data).validate_python(fields), split, tmp_path / "work")

    return read


def tags_of(dataset):
    """{photo's name: names of its tags}, sorted."""
    return {sample.id.split("/")[-1]: [dataset.classes[tag] for tag in sample.tags] for sample in dataset.samples}


def unknown_of(dataset):
    """{photo's name: names of its unknown classes} of photos that have some."""
    return {sample.id.split("/")[-1]: [dataset.classes[tag] for tag in sample.unknown] for sample in dataset.samples if sample.unknown}
