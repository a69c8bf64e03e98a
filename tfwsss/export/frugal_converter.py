"""TensorFlow functions as ONNX models, without copies of the weights.

By default tf2onnx copies the whole graph before each of its optimisers, twice fifteen of them, so that one that fails can
be left out, and afterwards writes every constant anew into protobuf messages, whose memory is not given back as long as
the graph lives. ResNet38 of 470 MB took more than 24 GB that way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx
import tensorflow as tf
import tf2onnx
import tf2onnx.constants
import tf2onnx.graph

from tfwsss.export.group_means import reduce_group_means
from tfwsss.export.normalization_layout import spread_normalization
from tfwsss.models import conversion

_CATCH_ERRORS = tf2onnx.constants.ENV_TF2ONNX_CATCH_ERRORS


def _update_proto_but_constants(update_proto):
    # Constants become initialisers from their attribute, so nobody reads the message of their node.
    return lambda node, *arguments: None if node.is_const() else update_proto(node, *arguments)


@contextmanager
def without_copies() -> Iterator[None]:
    """Within this context a conversion works on one graph, and an optimiser that fails ends it. Not for several threads."""
    chosen, update_proto = os.environ.get(_CATCH_ERRORS), tf2onnx.graph.Node.update_proto
    os.environ[_CATCH_ERRORS] = "FALSE"
    tf2onnx.graph.Node.update_proto = _update_proto_but_constants(update_proto)
    try:
        yield
    finally:
        tf2onnx.graph.Node.update_proto = update_proto
        if chosen is None:
            del os.environ[_CATCH_ERRORS]
        else:
            os.environ[_CATCH_ERRORS] = chosen


def converted(function: Callable, *, opset: int = 17, channels_last: bool = False) -> onnx.ModelProto:
    """A function of photos as an ONNX model. Not for several threads.

    Args:
        function: tensor uint8 [B, H, W, 3] -> {name: tensor}; traced here, once.
        opset: ONNX operator set.
        channels_last: see `tfwsss.models.conversion`.

    Returns:
        Model with the input `images` and the outputs by their names.
    """
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")]

    @tf.function(input_signature=signature, autograph=False)
    def traced(images):
        return function(images)

    with conversion(channels_last), without_copies():
        model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=opset)
    spread_normalization(model)
    reduce_group_means(model)
    return model
