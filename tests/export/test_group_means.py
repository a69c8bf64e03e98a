"""Means over a whole group are reductions in the file, not poolings with one window."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from tfwsss.export import Inference, export_onnx
from tfwsss.models import build_segmenter
from tfwsss.normalization import TORCH


@pytest.mark.parametrize("opset", [17, 18])
def test_no_pooling_over_one_axis_and_the_same_scores(tmp_path, opset):
    keras.utils.set_random_seed(0)
    model = build_segmenter("mobilenet", 2, width=0.25)
    path = export_onnx(model, tmp_path / "m.onnx", class_names=("cat", "dog"), normalization=TORCH, outputs=("scores",), opset=opset)
    found = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in found.value_info}
    kinds = [(node.op_type, ranks[node.input[0]]) for node in found.node if node.op_type in ("GlobalAveragePool", "ReduceMean")]
    assert kinds.count(("ReduceMean", 3)) == 18 and ("GlobalAveragePool", 3) not in kinds
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3)).astype(np.uint8)
    scores = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["scores"], {"images": images})[0]
    np.testing.assert_allclose(scores, Inference(model, TORCH).scores(tf.constant(images)), atol=1e-5)
