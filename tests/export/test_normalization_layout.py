"""The colours' normalisation in the file: elementwise, whatever its kind."""

from __future__ import annotations

import onnx
import pytest
from onnx import numpy_helper

from tfwsss.export import export_onnx
from tfwsss.normalization import CAFFE_VGG16, SYMMETRIC, TORCH


@pytest.mark.parametrize("colours", [TORCH, CAFFE_VGG16, SYMMETRIC])
def test_normalization_is_elementwise_and_channels_first(tiny_model, tmp_path, colours):
    path = export_onnx(tiny_model, tmp_path / "m.onnx", class_names=("cat", "dog", "horse"), normalization=colours, outputs=("scores",))
    graph = onnx.load(path).graph
    kernels = [numpy_helper.to_array(tensor).shape for tensor in graph.initializer if len(tensor.dims) == 4]
    assert (3, 3, 1, 1) not in kernels
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    kinds = [node.op_type for node in graph.node if node.name.startswith("normalization_0/")]
    assert kinds == {TORCH: ["Mul", "Add"], CAFFE_VGG16: ["Gather", "Add"], SYMMETRIC: ["Mul", "Add"]}[colours]
