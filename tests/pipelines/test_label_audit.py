"""The audit's files, and what masks say of it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfwsss.config.files import parse_config
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.errors import DataError
from tfwsss.label_audit import margin
from tfwsss.pseudolabel import from_grid
from tfwsss.storage.artifacts import save_label, save_walk
from tfwsss_pipelines.engine.context import Context
from tfwsss_pipelines.stages import audit_scores, label_audit

SIDES = {"good": 12, "fair": 8, "bad": 4, "empty": 0}  # of the square that the normalised walk finds; the object's side is 12


HALVES = np.array([[[1.0, 0.5], [0.5, 0.5]]], np.float32)  # the class in the upper left cell, the background in the lower right
NORMALISED_MAPS = np.concatenate([HALVES[:, ::-1, ::-1], HALVES])


def square(side):
    label = np.zeros((16, 16), np.uint8)
    label[:side, :side] = 2
    return label


@pytest.fixture
def context(tmp_path):
    config = parse_config({"data": {"format": "scenes"}, "runtime": {"workers": 1, "progress": False}})
    samples = [Sample(name, tmp_path / f"{name}.jpg", (1,)) for name in SIDES] + [Sample("untagged", tmp_path / "untagged.jpg", ())]
    masks = {sample.id: square(12 if sample.tags else 0) for sample in samples}
    for sample in samples:
        side = SIDES.get(sample.id, 0)
        for folder, label in {"label_votes/plain": square(side), "label_votes/normalised": square(side and 12)}.items():
            save_label(tmp_path / folder, sample.id, label)
        strengths = np.array([0.2, 0.4][: 1 + len(sample.tags)], np.float32)[:, None, None]
        save_walk(tmp_path / "walk", sample.id, sample.tags, np.concatenate([strengths[:1] * HALVES[:, ::-1, ::-1], strengths[1:] * HALVES]))
    dataset = Dataset(("cat", "dog"), tuple(samples), lambda sample: masks[sample.id])
    return Context(config, tmp_path, SimpleNamespace(artifact=lambda path: None, metrics=lambda values: None), {"train": dataset})


def test_the_lists_begin_with_the_worst(context):
    metrics = label_audit.run(context)
    with (context.work / "label_audit/classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["photo", "class", "confidence", "share", "reason"]
    assert [row["photo"] for row in rows] == ["empty", "bad", "fair", "good"] and {row["class"] for row in rows} == {"dog"}
    agreed = [0, 16 / 144, 64 / 144, 1]
    lead = [0, *(margin(from_grid(NORMALISED_MAPS, 16, 16))[:side, :side].mean() for side in (4, 8, 12))]
    expected = [(one + other) / 2 for one, other in zip(agreed, lead, strict=True)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(expected, abs=1e-4)
    photos = label_audit.read_photos(context.work)
    assert [photo.photo for photo in photos] == ["empty", "bad", "fair", "good"]
    assert metrics == {"photos": 4, "mean_confidence": pytest.approx(np.mean(expected), abs=1e-4)}
    assert label_audit.read_doubts(context.work)[0] == ("empty", "dog", "has vanished from the label")
    pixels = np.asarray(Image.open(context.work / "label_audit/pixels/bad.png"))
    lead = margin(from_grid(NORMALISED_MAPS, 16, 16))
    np.testing.assert_allclose(pixels[:4, :4] / 255, (lead[:4, :4] + 1) / 2, atol=1 / 255)
    np.testing.assert_allclose(pixels[4:12, 4:12] / 255, lead[4:12, 4:12] / 2, atol=1 / 255)


def test_masks_say_whether_it_ranks_and_the_surest_are_without_the_worst_tenth(context):
    label_audit.run(context)
    dataset = context.scored_dataset("train")
    true = {sample.id: audit_scores.true_agreement(context.work, sample, dataset.mask(sample), 0.01) for sample in dataset.samples}
    assert true.pop("untagged") is None
    assert audit_scores.audit_scores(context, true) == {"audit_rank_correlation": pytest.approx(1.0)}
    photos = [sample.id for sample in dataset.samples]
    assert audit_scores.doubtful(context, photos) == set()  # a tenth of five is none
    assert audit_scores.doubtful(context, photos + [f"more{n}" for n in range(5)]) == {"empty"}


def test_without_an_audit_it_says_so(tmp_path):
    with pytest.raises(DataError, match=r"photos.csv: no such file; has stage label_audit finished there\?"):
        label_audit.read_photos(tmp_path)
