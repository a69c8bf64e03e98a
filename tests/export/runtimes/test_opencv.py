"""The exported file in OpenCV's dnn module, version 5: its earlier engine refuses free axes."""

from __future__ import annotations

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra `test`)")
if int(cv2.__version__.split(".")[0]) < 5:
    pytest.skip(f"OpenCV {cv2.__version__} has only the engine that refuses free axes; 5 has another", allow_module_level=True)


def masks(path, batches) -> list[np.ndarray]:
    network = cv2.dnn.readNetFromONNX(str(path), cv2.dnn.ENGINE_NEW)
    found = []
    for images in batches:
        network.setInput(images, "images")
        found.append(network.forward("mask").reshape(images.shape[:3]))
    return found


@pytest.mark.parametrize("backbone", ["resnet38", "vgg16"])
def test_masks_are_those_of_keras(exported, backbone):
    made = exported(backbone)
    made.check("opencv", masks(made.path, made.batches))


def test_mobilenets_are_right_where_every_strided_map_has_odd_sides(exported):
    # OpenCV pads a strided convolution alike on both sides, which "same" is on maps with odd sides only: photos with
    # sides of a multiple of the stride plus 1.
    made = exported("mobilenetv2")
    made.check("opencv", masks(made.path, made.batches[:1]))
    with pytest.raises(Exception, match="pixel"):
        made.check("opencv", masks(made.path, made.batches))
