"""The client's own declarations against the official messages of tensorflow-serving-api and TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import symbol_database, wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from tfwsss_tf_serving import AnswerError
from tfwsss_tf_serving.messages import MESSAGES, STATES, PredictRequest, TensorProto
from tfwsss_tf_serving.tensors import from_proto, to_proto


def official(name: str):
    assert wrappers_pb2 and tensor_pb2 and predict_pb2  # imported: they register what is looked up here
    return symbol_database.Default().pool.FindMessageTypeByName(name)


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_are_the_official_ones(name):
    for field in MESSAGES[name].DESCRIPTOR.fields:
        theirs = official(name).fields_by_name[field.name]
        assert theirs.number == field.number
        enum_as_integer = theirs.type == FieldDescriptor.TYPE_ENUM and field.type == FieldDescriptor.TYPE_INT32
        assert theirs.type == field.type or enum_as_integer
        assert theirs.is_repeated == field.is_repeated if hasattr(theirs, "is_repeated") else theirs.label == field.label
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type.name == theirs.message_type.full_name.replace(".", "_")


def test_states_are_the_official_ones():
    assert {number: name for name, number in get_model_status_pb2.ModelVersionStatus.State.items()} == STATES


@pytest.mark.parametrize("value", [np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.array([[0.5, -1.0]], np.float32), np.zeros((0, 3), np.uint8)])
def test_arrays_there_and_back(value):
    theirs = tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_proto(value).SerializeToString()))
    np.testing.assert_array_equal(theirs, value)
    assert theirs.dtype == value.dtype
    for written in (tf.make_tensor_proto(value), tf.make_tensor_proto(value.tolist(), value.dtype, value.shape)):
        ours = from_proto(TensorProto.FromString(written.SerializeToString()), "x")
        np.testing.assert_array_equal(ours, value)
        assert ours.dtype == value.dtype


def test_shortened_tensors():
    full = tf.make_tensor_proto(np.full((3, 4), 7, np.uint8))
    short = tensor_pb2.TensorProto(dtype=full.dtype, tensor_shape=full.tensor_shape, int_val=[7])
    np.testing.assert_array_equal(from_proto(TensorProto.FromString(short.SerializeToString()), "x"), np.full((3, 4), 7))


def test_strings_there_and_back():
    values = [b"one", b"", b"\0\xff"]
    assert tf.make_ndarray(tensor_pb2.TensorProto.FromString(to_proto(values).SerializeToString())).tolist() == values
    assert from_proto(TensorProto.FromString(tf.make_tensor_proto(values).SerializeToString()), "x") == values


@pytest.mark.parametrize(
    "wrong",
    [
        {"dtype": 3, "int_val": [1]},
        {"dtype": 4, "tensor_shape": {"dim": [{"size": 5}]}, "tensor_content": b"1234"},
        {"dtype": 4, "tensor_shape": {"dim": [{"size": -1}]}, "tensor_content": b""},
        {"dtype": 4, "tensor_shape": {"dim": [{"size": 2}]}},
        {"dtype": 4, "tensor_shape": {"dim": [{"size": 2}]}, "int_val": [1, 2, 3]},
        {"dtype": 7, "tensor_shape": {"dim": [{"size": 2}]}, "string_val": [b"a"]},
    ],
)
def test_wrong_tensors_are_named(wrong):
    with pytest.raises(AnswerError, match="^the mask: "):
        from_proto(TensorProto.FromString(tensor_pb2.TensorProto(**wrong).SerializeToString()), "the mask")


def test_requests_are_read_by_the_official_message():
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name, request.model_spec.version_label = "segmenter", "scores", "canary"
    request.inputs.add(key="images", value=to_proto(np.zeros((1, 2, 2, 3), np.uint8)))
    theirs = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name, theirs.model_spec.version_label) == ("segmenter", "scores", "canary")
    assert list(theirs.inputs) == ["images"] and tf.make_ndarray(theirs.inputs["images"]).shape == (1, 2, 2, 3)
