"""The few protobuf messages of TensorFlow Serving's PredictionService and ModelService that the client sends and receives.

The package tensorflow-serving-api has them all and imports TensorFlow for them. On the wire a message is its field numbers and
types, so these declarations, in a descriptor pool of their own, are understood by any server; fields that are not declared
are skipped. The tests compare every field with tensorflow-serving-api's.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS = {name: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name.upper()}") for name in ("string", "bytes", "int32", "int64", "bool", "float")}
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_SERVING = "tensorflow.serving"

# Full name -> fields (name, number, type); "repeated" before the type. Enums are sent as the integers they are.
_DECLARED = {
    "tensorflow.TensorShapeProto.Dim": [("size", 1, "int64")],
    "tensorflow.TensorShapeProto": [("dim", 2, "repeated tensorflow.TensorShapeProto.Dim")],
    "tensorflow.TensorProto": [
        ("dtype", 1, "int32"),
        ("tensor_shape", 2, "tensorflow.TensorShapeProto"),
        ("tensor_content", 4, "bytes"),
        ("float_val", 5, "repeated float"),
        ("int_val", 7, "repeated int32"),
        ("string_val", 8, "repeated bytes"),
    ],
    "google.protobuf.Int64Value": [("value", 1, "int64")],
    f"{_SERVING}.ModelSpec": [
        ("name", 1, "string"),
        ("version", 2, "google.protobuf.Int64Value"),
        ("signature_name", 3, "string"),
        ("version_label", 4, "string"),
    ],
    f"{_SERVING}.PredictRequest.InputsEntry": [("key", 1, "string"), ("value", 2, "tensorflow.TensorProto")],
    f"{_SERVING}.PredictRequest": [
        ("model_spec", 1, f"{_SERVING}.ModelSpec"),
        ("inputs", 2, f"repeated {_SERVING}.PredictRequest.InputsEntry"),
    ],
    f"{_SERVING}.PredictResponse.OutputsEntry": [("key", 1, "string"), ("value", 2, "tensorflow.TensorProto")],
    f"{_SERVING}.PredictResponse": [
        ("outputs", 1, f"repeated {_SERVING}.PredictResponse.OutputsEntry"),
        ("model_spec", 2, f"{_SERVING}.ModelSpec"),
    ],
    f"{_SERVING}.GetModelStatusRequest": [("model_spec", 1, f"{_SERVING}.ModelSpec")],
    f"{_SERVING}.ModelVersionStatus": [("version", 1, "int64"), ("state", 2, "int32")],
    f"{_SERVING}.GetModelStatusResponse": [("model_version_status", 1, f"repeated {_SERVING}.ModelVersionStatus")],
}


def _flat(name: str) -> str:
    """Nested messages are declared side by side: the names of messages are not sent."""
    return name.replace(".", "_")


def message_class(descriptor) -> type:
    """The class of a message, also with protobuf 3.20, the one of the packages that support Python 3.9."""
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(descriptor.file.pool).GetPrototype(descriptor)


def _declare() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(name="tfwsss_tf_serving.proto", package="tfwsss", syntax="proto3")
    for name, fields in _DECLARED.items():
        message = file.message_type.add(name=_flat(name))
        for field, number, kind in fields:
            repeated, _, kind = kind.rpartition(" ")
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if repeated else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label, type=_SCALARS.get(kind, _MESSAGE))
            if kind not in _SCALARS:
                entry.type_name = f".tfwsss.{_flat(kind)}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_class(pool.FindMessageTypeByName(f"tfwsss.{_flat(name)}")) for name in _DECLARED}


MESSAGES = _declare()
TensorProto = MESSAGES["tensorflow.TensorProto"]
PredictRequest = MESSAGES[f"{_SERVING}.PredictRequest"]
PredictResponse = MESSAGES[f"{_SERVING}.PredictResponse"]
GetModelStatusRequest = MESSAGES[f"{_SERVING}.GetModelStatusRequest"]
GetModelStatusResponse = MESSAGES[f"{_SERVING}.GetModelStatusResponse"]

# tensorflow.serving.ModelVersionStatus.State
AVAILABLE = 30
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", AVAILABLE: "AVAILABLE", 40: "UNLOADING", 50: "END"}
