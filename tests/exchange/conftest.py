"""The photos and label maps of tests/data/fixtures/exchange as a data set."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tfwsss.data.dataset import Sample
from tfwsss.data.image import read_mask
from tfwsss.exchange import LabelledPhoto, Photos, read_corrected

FIXTURE = Path(__file__).parents[1] / "data/fixtures/exchange"
CLASSES = ("square", "disc")
TAGS = {"four": (0,), "one": (1,), "three": (), "two": (0, 1)}


@pytest.fixture
def drawn():
    """`samples`, `labels` by id, `photos` to be exported, and `read(path)`, which gives the labels of a file by id."""
    samples = [Sample(name, FIXTURE / f"images/{name}.png", tags) for name, tags in TAGS.items()]
    labels = {name: read_mask(FIXTURE / f"masks/{name}.png") for name in TAGS}
    photos = [LabelledPhoto(f"{name}.png", FIXTURE / f"images/{name}.png", 0.25 + 0.1 * number, {1: 0.5}, labels[name]) for number, name in enumerate(TAGS)]

    def read(path, classes=CLASSES):
        found = []
        read_corrected(path, Photos(samples, 50.0), classes, found.append)
        return {corrected.sample.id: corrected.label for corrected in found}

    return SimpleNamespace(samples=samples, labels=labels, photos=photos, read=read, classes=CLASSES, folder=FIXTURE)
