"""What a run says at its start: masks, tags, photos, start weights and the disk, before anything is trained."""

import collections
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tfwsss.config.files import parse_config
from tfwsss.errors import DataError
from tfwsss_pipelines.engine.context import Context, usable_split
from tfwsss_pipelines.stages import data as stage


class Run:
    id = "run"

    def artifact(self, path, folder=""):
        pass


@pytest.fixture
def project(tmp_path):
    """Four photos of 80x60 with masks; call it to run the stage `data`."""
    (tmp_path / "masks").mkdir()
    for number, name in enumerate("abcd"):
        Image.effect_noise((80, 60), 60 + number).convert("RGB").save(tmp_path / f"{name}.png")
        Image.fromarray(np.full((60, 80), 1 + number % 2, np.uint8)).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "tags.csv").write_text("image,tags\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n")

    def run(**sections):
        values = {"format": "folder", "root": str(tmp_path), "mask_folder": "masks", **sections.pop("data", {})}
        run.config = parse_config({"work_dir": str(tmp_path / "work"), "data": values, "runtime": {"workers": 1}, **sections})
        return stage.run(Context(run.config, tmp_path / "work", Run()))

    run.folder = tmp_path
    return run


def quarantined(folder):
    return (folder / "work/data/quarantine.csv").read_text()


def test_a_photo_whose_mask_does_not_fit_is_not_scored_and_named(project, capsys):
    folder = project.folder
    Image.new("L", (60, 80)).save(folder / "masks/a.png")
    Image.new("RGB", (80, 60)).save(folder / "masks/b.png")
    project()
    assert "train,a," in quarantined(folder) and "not scored, mask: 60x80, photo 80x60" in quarantined(folder)
    assert "not scored, mask:" in quarantined(folder) and "mode RGB" in quarantined(folder)
    said = capsys.readouterr().err
    assert "1 photos have a mask of another size: a (60x80, photo 80x60)" in said and "2 photos or masks left out" in said
    dataset = usable_split(project.config, folder / "work", "train")
    assert [dataset.mask(sample) is None for sample in dataset.samples] == [True, True, False, False]
    assert json.loads((folder / "work/data/usable.json").read_text())["unscored"] == {"train": ["a", "b"], "val": []}


@pytest.mark.parametrize("kind", ["RGB", "size"])
def test_masks_that_are_all_wrong_stop_the_run_at_once(project, kind):
    for name in "abc":
        Image.new("RGB" if kind == "RGB" else "L", (80, 60) if kind == "RGB" else (60, 80)).save(project.folder / f"masks/{name}.png")
    with pytest.raises(DataError, match=r"3 of 4 masks of train are unusable, .* the first is .*masks/a.png .*(mode RGB|60x80, photo 80x60).*mend them, or run without masks"):
        project()


def test_the_doctors_findings_are_said_in_short(project, capsys):
    Image.fromarray(np.full((60, 80), 3 << 8, np.uint16)).save(project.folder / "a.png")  # 12 bits in 16
    (project.folder / "tags.csv").write_text('image,tags\na.png,cat\nb.png,"cat|dog, cow"\nc.png,cat|cow\nd.png,cat\n')
    project(data={"mask_folder": None})
    said = capsys.readouterr().err
    assert "every photo has the tag cat: nothing tells the classifier where it is" in said
    assert "1 photos are nearly black" in said and "can be split at a comma" in said and "tfwsss data check CONFIG says more" in said


def test_a_disk_that_is_too_small(project, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: collections.namedtuple("Usage", "free")(20_010_000))
    with pytest.raises(DataError, match="work: 0.02 GB free, the maps of 4 photos need about 0.02 GB; choose another work_dir"):
        project()


def test_settings_and_a_disk_that_will_be_too_small_are_said(project, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: collections.namedtuple("Usage", "free")(50_000_000))
    project(classifier={"resize_long": [32, 80]}, segmenter={"crop": 64})
    said = capsys.readouterr().err
    assert "classifier.crop 448: photos of 80x60 px, the median here, fill 2% of it at most (classifier.resize_long up to 80)" in said
    assert "affinitynet.crop 448" in said and "segmenter.crop" not in said
    assert "work: 0.05 GB free, the run needs about" in said
