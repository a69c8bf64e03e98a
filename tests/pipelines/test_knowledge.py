"""A small run in which some tags are unknown and some photos have a mask: what each stage makes of both."""

import csv
import json

import numpy as np
import pytest
import yaml

from tests.pipelines.conftest import TINY
from tfwsss.config import ScenesData
from tfwsss.data import load_split
from tfwsss.data.dataset import Sample
from tfwsss.data.image import read_mask
from tfwsss.storage.artifacts import load_cam, save_label
from tfwsss_pipelines.labelling.cams import Tagged
from tfwsss_pipelines.stages.cams import _weights


@pytest.fixture
def scenes(tmp_path):
    """Six scenes as a folder with a table: one class of each photo is unknown; two photos have a mask to learn from."""
    data = load_split(ScenesData(**TINY["data"]), "train", tmp_path)
    root = tmp_path / "scenes"
    rows = []
    for number, sample in enumerate(data.samples):
        other = next(name for index, name in enumerate(data.classes) if index not in sample.tags)
        rows.append((f"{sample.id}.png", "|".join([*(data.classes[tag] for tag in sample.tags), f"?{other}"])))
        if number < 2:
            (root / "drawn/train").mkdir(parents=True, exist_ok=True)
            (root / f"drawn/{sample.id}.png").write_bytes((root / f"masks/{sample.id}.png").read_bytes())
    with (root / "known.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "tags"), *rows])
    return root


@pytest.mark.slow
def test_unknown_tags_and_masks_in_a_run(scenes, tmp_path, cli):
    section = {"format": "folder", "root": str(scenes), "train_csv": "known.csv", "strong_masks": "drawn"}
    short = {name: {**TINY[name], "epochs": 1} for name in ("classifier", "affinitynet", "segmenter")}
    short["segmenter"]["strong_weight"] = 4.0
    (tmp_path / "known.yaml").write_text(yaml.safe_dump({**TINY, **short, "data": section}))
    done = cli(tmp_path, "run", "known.yaml", "--work-dir", "work", "--until", "segmenter")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert text.count("labels: masks of 2 photos, made labels of 4") == 2  # AffinityNet and the segmenter
    found = json.loads((tmp_path / "work/data/usable.json").read_text())
    assert found["strong_masks"] == ["train/00000", "train/00001"]
    for name, tags in list(csv.reader((scenes / "known.csv").open()))[1:]:
        classes, cam = load_cam(tmp_path / "work/cams", name.removesuffix(".png"))
        assert len([tag for tag in tags.split("|") if not tag.startswith("?")]) <= len(classes) <= len(tags.split("|")) and np.isfinite(cam).all()
    # One more photo is corrected: another label for both, and no other stage runs again but those that follow.
    exported = cli(tmp_path, "labels", "export", "known.yaml", "--work-dir", "work", "--to", "folders", "-o", "exported")
    assert "6 of 6 photos, 2 of them with a mask of data.strong_masks: exported" in exported.stdout, exported.stderr
    corrected = read_mask(scenes / "masks/train/00004.png")
    save_label(tmp_path / "exported/masks/train", "train/00004", corrected)
    imported = cli(tmp_path, "labels", "import", "exported", "known.yaml", "--work-dir", "work", "--changed")
    assert "1 masks written for data.strong_masks: drawn, 2 were there already" in imported.stdout, imported.stderr
    np.testing.assert_array_equal(read_mask(scenes / "drawn/train/00004.png"), corrected)
    again = cli(tmp_path, "run", "known.yaml", "--work-dir", "work", "--until", "segmenter")
    text = again.stdout + again.stderr
    for stage in ("classifier", "cams", "affinity_labels"):
        assert f"{stage}: unchanged, reused" in text, text
    for stage in ("affinitynet", "segmenter"):
        assert f"{stage}: unchanged, reused" not in text
    assert text.count("labels: masks of 3 photos, made labels of 3") == 2


def test_unknown_classes_compete_where_the_classifier_finds_them():
    photo = Tagged(Sample("a", None, (1,), unknown=(0, 2)), np.float32([0, 1, 0, 0]))
    np.testing.assert_allclose(_weights(photo, np.float32([0.8, 0.1, 0.4, 0.9])), [0.8, 1, 0, 0])
    assert photo.tags.tolist() == [0, 1, 0, 0]
