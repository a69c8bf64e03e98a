"""Operations counted from the graph are those that the sizes of the layers give."""

from __future__ import annotations

import onnx
import pytest

from tfwsss.export import export_onnx
from tfwsss.export.flops import count_flops
from tfwsss.normalization import CAFFE_VGG16


@pytest.mark.parametrize(("height", "width"), [(33, 47), (64, 80)])
def test_flops_of_three_layers_by_hand(tiny_model, tmp_path, height, width):
    path = export_onnx(tiny_model, tmp_path / "m.onnx", class_names=("cat", "dog", "horse"), normalization=CAFFE_VGG16)
    halves = [((height - 1) // 2 + 1) * ((width - 1) // 2 + 1)]
    halves.append(((height - 1) // 4 + 1) * ((width - 1) // 4 + 1))
    products = 8 * 3 * 9 * halves[0] + 8 * 8 * 9 * halves[1] + 4 * 8 * halves[1]
    assert count_flops(onnx.load(path), height, width) == 2 * products
