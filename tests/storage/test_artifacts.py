"""Label files as other programs see them."""

import numpy as np
from PIL import Image

from tfwsss.storage.artifacts import load_label, save_label


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
