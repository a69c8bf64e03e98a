"""Conversion without copies of the weights."""

import os

import keras
import onnx
import pytest
import tensorflow as tf
import tf2onnx.graph

from tfwsss.export.frugal_converter import without_copies

WEIGHTS = 3 * 3 * 64 * 64 * 4 * 8  # bytes


@pytest.fixture(scope="module")
def segment():
    layers = [keras.layers.Conv2D(64, 3, padding="same") for _ in range(8)]
    network = keras.Sequential([keras.Input((None, None, 64)), *layers])
    signature = [tf.TensorSpec([None, None, None, 64], name="x")]
    return tf.function(lambda x: {"y": network(x)}, input_signature=signature), signature


def convert(segment):
    function, signature = segment
    return tf2onnx.convert.from_function(function, input_signature=signature, opset=17)[0]


def test_no_optimiser_copies_the_graph(segment, monkeypatch):
    expected = convert(segment)

    def copied(graph, memo):
        raise AssertionError("the graph was copied")

    monkeypatch.setattr(tf2onnx.graph.Graph, "__deepcopy__", copied, raising=False)
    with without_copies():
        found = convert(segment)
    onnx.checker.check_model(found, full_check=True)
    assert sorted(node.op_type for node in found.graph.node) == sorted(node.op_type for node in expected.graph.node)
    kernels = [sorted(tensor.raw_data for tensor in model.graph.initializer) for model in (found, expected)]
    assert kernels[0] == kernels[1] and sum(map(len, kernels[0])) >= WEIGHTS


def test_a_pass_writes_no_constant_again(segment, monkeypatch):
    written = []
    update_proto = tf2onnx.graph.Node.update_proto
    monkeypatch.setattr(tf2onnx.graph.Node, "update_proto", lambda node, *rest: written.append(node.type) or update_proto(node, *rest))
    with without_copies():
        convert(segment)
    assert "Conv" in written and "Const" not in written


@pytest.mark.parametrize("chosen", [None, "TRUE"])
def test_everything_is_as_before_afterwards(chosen, monkeypatch):
    monkeypatch.delenv("TF2ONNX_CATCH_ERRORS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("TF2ONNX_CATCH_ERRORS", chosen)
    before = tf2onnx.graph.Node.update_proto
    with pytest.raises(RuntimeError), without_copies():
        raise RuntimeError
    assert tf2onnx.graph.Node.update_proto is before
    assert os.environ.get("TF2ONNX_CATCH_ERRORS") == chosen
