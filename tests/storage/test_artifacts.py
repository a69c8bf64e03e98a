"""Files of the stages as other programs see them."""

import numpy as np
import pytest
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.storage.artifacts import load_cam, load_label, load_walk, save_cam, save_label, save_walk


def test_labels_are_indexed_with_the_colours_of_voc(tmp_path):
    label = np.array([[0, 1, 15], [20, 255, 7]], np.uint8)
    save_label(tmp_path, "2007_000032", label)
    with Image.open(tmp_path / "2007_000032.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), label)
        colours = np.asarray(picture.convert("RGB"))
    # background, aeroplane, person; tvmonitor, ignored, car
    expected = [[(0, 0, 0), (128, 0, 0), (192, 128, 128)], [(0, 64, 128), (224, 224, 192), (128, 128, 128)]]
    np.testing.assert_array_equal(colours, expected)
    np.testing.assert_array_equal(load_label(tmp_path, "2007_000032"), label)


def test_maps_are_kept_at_each_scales_own_size(tmp_path):
    maps = [np.full((2, 1, 1), 0.25), np.arange(8).reshape(2, 2, 2) / 16]
    save_cam(tmp_path, "a", [0, 4], maps, (2, 2), "float16")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert {name: (archive[name].dtype, archive[name].shape) for name in archive.files} == {
            "classes": (np.int32, (2,)),
            "size": (np.int32, (2,)),
            "scale_0": (np.float16, (2, 1, 1)),
            "scale_1": (np.float16, (2, 2, 2)),
        }
    classes, cam = load_cam(tmp_path, "a")
    assert classes.tolist() == [0, 4] and cam.dtype == np.float32
    np.testing.assert_array_equal(cam, maps[1] + 0.25)
    save_cam(tmp_path, "none", [], [], (3, 5))
    assert load_cam(tmp_path, "none")[1].shape == (0, 3, 5)


def test_maps_of_earlier_versions_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", classes=np.zeros(1, np.int32), cam=np.zeros((1, 2, 2), np.float16))
    with pytest.raises(DataError, match="a.npz: of an earlier version.* run its stage again"):
        load_cam(tmp_path, "a")
    np.savez(tmp_path / "b.npz", classes=np.zeros(1, np.int32), background=np.zeros((1, 2, 2)), foreground=np.zeros((1, 2, 2)))
    with pytest.raises(DataError, match="b.npz: damaged.*run its stage again"):
        load_walk(tmp_path, "b")


def test_walks_come_back_exactly(tmp_path):
    walked = np.random.default_rng(0).random((3, 2, 4), np.float32)
    save_walk(tmp_path, "a", [1, 2], walked)
    classes, found = load_walk(tmp_path, "a")
    assert classes.tolist() == [1, 2]
    np.testing.assert_array_equal(found, walked)
