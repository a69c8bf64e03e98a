"""`tfwsss init`: what it says, the file it writes, and that the other commands take that file as it is."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.data.fixtures.make.drawings import draw
from tests.data.formats.conftest import FIXTURES
from tfwsss.config.files import load_config
from tfwsss.data import load_split
from tfwsss.errors import ConfigError, DataError
from tfwsss.storage.artifacts import save_label
from tfwsss_pipelines.proposal import propose as module
from tfwsss_pipelines.proposal.answers import Device, Untagged
from tfwsss_pipelines.proposal.command import init_run
from tfwsss_pipelines.proposal.propose import Options
from tfwsss_pipelines.proposal.settings import Machine, training_settings


@pytest.fixture
def tiles(tmp_path):
    """Forty photos in folders `dot`, `line` and `good`, four of each scene, with masks and a table of groups beside them."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        kind = ("dot", "line", "good", "good")[number // 4 % 4]
        pixels = rng.integers(60, 200, (64, 80, 3), np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        if kind != "good":
            mask[20:30, 10:30] = ("dot", "line").index(kind) + 1
            pixels[mask > 0] = 250
        path = tmp_path / f"tiles/train/{kind}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        save_label(tmp_path / "tiles/masks/train", f"{kind}/{number}", mask)
        rows.append(f"train/{kind}/{number}.png,{'' if kind == 'good' else kind},scene{number // 4}")
    (tmp_path / "tiles/train.csv").write_text("image,tags,group\n" + "\n".join(rows) + "\n")
    return tmp_path / "tiles"


@pytest.fixture
def init(tmp_path, capsys):
    """init(photos, force=..., **options): (what was printed, the configuration written)."""

    def run(photos, force=False, **options):
        output = tmp_path / "run.yaml"
        init_run(photos, output, Options(**options), tmp_path / "work", force=force)
        printed = capsys.readouterr()
        return printed.out + printed.err, load_config(output)

    return run


def test_a_folder_for_each_class_with_masks_and_groups_beside(tiles, init):
    text, config = init(tiles / "train")
    data = config.data
    assert (data.format, data.none, data.untagged, data.groups, data.mask_folder) == ("class_folders", ("good",), "background", ("../train.csv",), "../masks/train")
    assert data.orientation == "upright"
    train, val = (load_split(data, split, config.work_dir) for split in ("train", "val"))
    assert train.classes == ("dot", "line") and len(train) + len(val) == 40
    assert not {s.group for s in train.samples} & {s.group for s in val.samples}
    assert train.tag_matrix().any(axis=0).all() and val.tag_matrix().any(axis=0).all()
    assert train.mask(train.samples[0]).max() == 1
    for words in ("good: taken as the name of photos that show no class", "groups of 40 photos in ../train.csv", "masks, for scoring only", "too few to learn much from: dot", "next:"):
        assert words in text, words
    assert set(text.splitlines()) >= {f"  tfwsss data check {tiles.parent / 'run.yaml'}"}


def test_masks_with_other_numbers_are_not_taken(tiles, init):
    for path in (tiles / "masks").rglob("*.png"):
        mask = np.asarray(Image.open(path))
        save_label(path.parent, path.stem, np.where(mask == 1, 2, np.where(mask == 2, 1, 0)).astype(np.uint8))
    text, config = init(tiles / "train")
    assert config.data.mask_folder is None and "the values are not the numbers of the tags in this order (1 dot, ...)" in text


def test_nothing_is_written_over_without_force(tiles, init, tmp_path):
    (tmp_path / "run.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="run.yaml: is there already; choose another with -o, or write over it with --force"):
        init(tiles / "train")
    assert (tmp_path / "run.yaml").read_text() == "mine"
    assert init(tiles / "train", force=True)[1].name == "tiles"


def test_nothing_is_written_when_nothing_is_found(init, tmp_path):
    draw(tmp_path / "loose")
    with pytest.raises(DataError, match="4 photos and nothing that says what is on them"):
        init(tmp_path / "loose")
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize("name", ["cvat", "coco_boxes", "fiftyone/several", "hf_metadata/csv", "label_studio", "parquet", "tfrecord/train.tfrecord"])
def test_files_of_other_tools(init, name):
    text, config = init(FIXTURES / name)
    assert len(load_split(config.data, "train", config.work_dir)) >= 2
    assert "! " in text  # the doctor's warnings


def test_answers_stand_in_the_file(tiles, init):
    text, config = init(tiles / "train", untagged=Untagged.leave_out, held_out=0.5, device=Device.gpu, backbone="mobilenet", weights="w.h5")
    assert config.data.untagged == "leave_out" and config.data.val_fraction == 0.5
    assert {config.classifier.model.backbone, config.segmenter.model.backbone} == {"mobilenet"} and config.affinitynet.model.weights == "w.h5"
    assert config.segmenter.head == "auto" and "sized for a GPU: mobilenet" in text


def test_photos_without_a_tag_are_left_out_and_it_is_said(init, tmp_path):
    paths = draw(tmp_path / "p")
    (tmp_path / "p/tags.csv").write_text("image,tags\none.png,disc\ntwo.png,disc|square\nthree.png,\nfour.png,square\n")
    text, config = init(tmp_path / "p", held_out=0.0)
    assert config.data.untagged == "leave_out" and "1 photos have no tag and are left out; if they show none of the classes: --untagged background" in text
    assert len(paths) == 4 and "nothing is held out" in text


def test_the_file_is_for_people(tiles, init, tmp_path):
    init(tiles / "train")
    text = (tmp_path / "run.yaml").read_text()
    assert text.startswith("# Written by tfwsss init for ")
    assert yaml.safe_load(text)["data"]["format"] == "class_folders"
    for section in ("data:", "classifier:", "affinitynet:", "segmenter:"):
        above = text[: text.index(f"\n{section}")].splitlines()[-1]
        assert above.startswith("# "), section


def test_backbone_and_weights_that_can_be_had(monkeypatch):
    monkeypatch.setattr(module, "has_gpu", lambda: False)
    monkeypatch.setattr(module, "packaged_backbone", lambda: "efficientnetlite0")
    assert module._machine(Options()) == Machine(False, "efficientnetlite0", "imagenet")
    assert module._machine(Options(weights="w.h5")) == Machine(False, "mobilenetv2", "w.h5")
    monkeypatch.setattr(module, "packaged_backbone", lambda: None)
    assert module._machine(Options()).backbone == "mobilenetv2"
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    assert module._machine(Options()) == Machine(True, "resnet50", "imagenet")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("photos", [1, 7, 100, 437, 100_000])
@pytest.mark.parametrize("side", [20, 100, 333, 500, 4000])
def test_settings_of_any_size_are_valid(gpu, photos, side):
    from tfwsss.config.files import parse_config

    sections = training_settings(Machine(gpu, "mobilenetv2", "imagenet"), photos, side)
    config = parse_config({"data": {"format": "scenes"}, **json.loads(json.dumps(sections))})
    assert config.classifier.crop <= max(side, 96) and config.classifier.batch_size <= max(2, photos)
    steps = photos / config.segmenter.batch_size * config.segmenter.epochs
    assert steps >= 1200 or config.segmenter.epochs == 60


def test_settings_of_the_preset():
    """What `voc-animals` has for 1200 photos of 500 pixels on a processor."""
    preset, sections = load_config("voc-animals"), training_settings(Machine(False, "mobilenetv2", "imagenet"), 1200, 500)
    for name, values in sections.items():
        section = getattr(preset, name).model_dump(mode="json")
        given = {key: value for key, value in values.items() if key not in ("model", "optimizer")}
        assert {key: section[key] for key in given} == given, name


def test_large_photos_are_worked_on_smaller(tiles, init):
    for path in (tiles / "train").rglob("*.png"):
        with Image.open(path) as picture:
            picture.resize((1280, 1024)).save(path)
    for path in (tiles / "masks").rglob("*.png"):
        save_label(path.parent, path.stem, np.kron(np.asarray(Image.open(path)), np.ones((16, 16), np.uint8)))
    text, config = init(tiles / "train")
    assert config.data.long_side == 512 and "photos are large, median 1280x1024" in text and "far larger than" not in text
    assert config.classifier.crop == 256 and config.segmenter.crop == 256
    train = load_split(config.data, "train", config.work_dir)
    assert train.read(train.samples[0]).shape == (410, 512, 3) and train.mask(train.samples[0]).shape == (410, 512)


def test_photos_of_different_sizes_are_mapped_at_the_size_that_is_learnt(tiles, init):
    text, config = init(tiles / "train")
    assert config.cams.long_side is None and "differ in size" not in text
    for number, path in enumerate(sorted((tiles / "train").rglob("*.png"))):
        with Image.open(path) as picture:
            picture.resize((80, 64) if number % 4 else (160, 128)).save(path)
    text, config = init(tiles / "train", force=True)
    assert config.cams.long_side == config.classifier.resize_long[1] and "photos differ in size" in text
