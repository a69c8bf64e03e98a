"""Generated scenes: exact, deterministic, and made of big bodies with a small part that tells the class."""

import numpy as np
import pytest
from PIL import Image

from tfwsss.config import ScenesData
from tfwsss.data import load_split
from tfwsss.data.check import check_images
from tfwsss.data.formats.scenes import read_scenes
from tfwsss.data.scene_drawing import CLASSES, COMPANIONS, _majority, draw_scene
from tfwsss.errors import DataError


def scene(seed, height=96, width=128, classes=CLASSES):
    return draw_scene(np.random.default_rng(seed), height, width, classes)


@pytest.fixture(scope="module")
def many():
    return [scene(seed) for seed in range(150)]


def test_majority_of_every_2x2_block():
    blocks = np.stack(np.meshgrid(*[np.arange(4)] * 4, indexing="ij"), -1).reshape(-1, 4)
    label = np.zeros((2, 2 * len(blocks)), np.uint8)
    label[0, 0::2], label[0, 1::2], label[1, 0::2], label[1, 1::2] = blocks.T
    for block, found in zip(blocks, _majority(label)[0], strict=True):
        counts = np.bincount(block, minlength=4)
        assert counts[found] == counts.max()
        if counts[block[0]] == counts.max():
            assert found == block[0]


def test_images_and_labels(many):
    for image, label in many:
        assert image.shape == (96, 128, 3) and image.dtype == np.uint8
        assert label.shape == (96, 128) and label.dtype == np.uint8
        assert 0 < label.max() <= len(CLASSES)  # at least one object, no ignore


def test_what_occurs(many):
    tags = np.array([[(label == k + 1).any() for k in range(len(CLASSES))] for _, label in many], int)
    assert (tags.mean(axis=0) > 0.15).all()
    together = tags.T @ tags
    a, b = (CLASSES.index(name) for name in COMPANIONS)
    pairs = together[np.triu_indices(len(CLASSES), 1)]
    assert together[a, b] == pairs.max() and together[a, b] > 1.3 * np.sort(pairs)[-2]
    covered = np.array([(label > 0).mean() for _, label in many])
    assert 0.15 < covered.mean() < 0.45


def test_background_tells_nothing_and_bodies_stand_out(many):
    """The edge of a label is an edge in the image: much steeper than the background or the bodies are."""
    across, within = [], []
    for image, label in many:
        grey = image.astype(float).mean(axis=2)
        step = np.abs(grey[:, 4:] - grey[:, :-4])
        changes = label[:, 4:] != label[:, :-4]
        across.append(step[changes].mean())
        within.append(step[~changes].mean())
    assert np.mean(across) > 3 * np.mean(within)


def test_colour_does_not_tell_the_class(many):
    means = {k: [] for k in range(len(CLASSES))}
    for image, label in many:
        for k in np.unique(label[label > 0]) - 1:
            means[int(k)].append(image[label == k + 1].mean(axis=0))
    centres = np.array([np.mean(colours, axis=0) for colours in means.values()])
    spread = np.mean([np.std(colours, axis=0) for colours in means.values()])
    # The telling parts are a quarter of an object and vivid, hence more than nothing.
    assert np.abs(centres - centres.mean(axis=0)).max() < 1.5 * spread


def test_same_seed_same_scene_on_disk(tmp_path):
    config = ScenesData(format="scenes", train_images=6, val_images=2, size=64, seed=3)
    read_scenes(config, "train", tmp_path / "a")
    larger = config.model_copy(update={"train_images": 9})
    read_scenes(larger, "train", tmp_path / "b")
    for path in sorted((tmp_path / "a/scenes").rglob("*.png")):
        other = tmp_path / "b/scenes" / path.relative_to(tmp_path / "a/scenes")
        assert path.read_bytes() == other.read_bytes()
    other_seed = config.model_copy(update={"seed": 4})
    read_scenes(other_seed, "train", tmp_path / "c")
    first = "scenes/train/00000.png"
    assert (tmp_path / "a" / first).read_bytes() != (tmp_path / "c" / first).read_bytes()


def test_read_back_as_a_folder(tmp_path):
    config = ScenesData(format="scenes", train_images=12, val_images=5, size=80)
    train = load_split(config, "train", tmp_path)
    val = load_split(config, "val", tmp_path)
    assert (len(train), len(val), train.classes) == (12, 5, CLASSES)
    assert not {s.id for s in train.samples} & {s.id for s in val.samples}
    for dataset in (train, val):
        for sample in dataset.samples:
            image, mask = dataset.read(sample), dataset.mask(sample)
            assert max(image.shape) == 80 and mask.shape == image.shape[:2]
            assert tuple(np.unique(mask[mask > 0]) - 1) == sample.tags
            assert dataset.masks.unknown_values(sample) == ()
        problems, digests = check_images(dataset, workers=1, require_tags=True)
        assert problems == [] and len(set(digests.values())) == len(dataset)


def test_scenes_are_drawn_once_and_again_after_a_change(tmp_path):
    config = ScenesData(format="scenes", train_images=2, val_images=1, size=48)
    photo = read_scenes(config, "train", tmp_path).samples[0].image
    Image.new("RGB", (48, 48)).save(photo)
    kept = photo.read_bytes()
    read_scenes(config, "val", tmp_path)
    assert photo.read_bytes() == kept
    read_scenes(config.model_copy(update={"val_images": 2}), "val", tmp_path)
    assert photo.read_bytes() != kept
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_some_of_the_classes(tmp_path):
    config = ScenesData(format="scenes", train_images=20, val_images=1, size=48, classes=("fish", "bull"))
    dataset = read_scenes(config, "train", tmp_path)
    assert dataset.classes == ("fish", "bull")
    assert (dataset.tag_matrix().sum(axis=0) > 4).all()


def test_what_is_refused(tmp_path):
    def read(**fields):
        read_scenes(ScenesData(format="scenes", train_images=1, val_images=1, **fields), "train", tmp_path)

    with pytest.raises(DataError, match="data.classes: wolf: generated scenes have bull, car"):
        read(classes=("bull", "wolf"))
    with pytest.raises(DataError, match="data.size: 16, expected at least"):
        read(size=16)
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes/mine.txt").write_text("mine")
    with pytest.raises(DataError, match="was not written by the scene generator"):
        read()
    assert (tmp_path / "scenes/mine.txt").read_text() == "mine"


def test_empty_scenes_have_no_tag_and_leave_the_others_as_they_are(tmp_path):
    config = ScenesData(format="scenes", train_images=40, val_images=1, size=48)
    full = read_scenes(config, "train", tmp_path / "full")
    some = read_scenes(config.model_copy(update={"empty_fraction": 0.3}), "train", tmp_path / "some")
    empty = [sample.tags == () for sample in some.samples]
    assert 5 < sum(empty) < 20
    for bare, before, after in zip(empty, full.samples, some.samples, strict=True):
        assert bare == (not some.mask(after).any())
        assert bare or before.image.read_bytes() == after.image.read_bytes()


def test_what_somebody_else_put_among_the_scenes_stays(tmp_path):
    config = ScenesData(format="scenes", train_images=2, val_images=1, size=48)
    read_scenes(config, "train", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "scenes/notes/sub").mkdir(parents=True)
    for name in ("scenes/notes/sub/a.txt", "scenes/train/mine.png", "scenes/train/00000.png.bak"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "scenes/masks/link").symlink_to(tmp_path / "mine")
    read_scenes(config.model_copy(update={"train_images": 1}), "train", tmp_path)
    for name in ("scenes/notes/sub/a.txt", "scenes/train/mine.png", "scenes/train/00000.png.bak"):
        assert (tmp_path / name).read_text() == "mine"
    assert (tmp_path / "scenes/masks/link").readlink() == tmp_path / "mine"
    assert not (tmp_path / "scenes/train/00001.png").exists() and (tmp_path / "scenes/train/00000.png").exists()


@pytest.mark.parametrize("settings", [None, "{", "[]", "{}"])
def test_a_link_and_a_folder_with_other_settings_are_refused(tmp_path, settings):
    folder = tmp_path / "work/scenes"
    if settings is None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "work").mkdir()
        folder.symlink_to(tmp_path / "mine")
    else:
        folder.mkdir(parents=True)
        (folder / "scenes.json").write_text(settings)
    with pytest.raises(DataError, match="is a link|was not written by the scene generator"):
        read_scenes(ScenesData(format="scenes", train_images=1, val_images=1), "train", tmp_path / "work")
