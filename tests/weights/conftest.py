"""Writers of the foreign formats, written from their descriptions, and small models to read them into."""

import io
import struct
import zipfile
from types import SimpleNamespace

import keras
import numpy as np
import pytest


def mxnet_list(arrays, version) -> bytes:
    """An NDArray list; version 0 is the layout without a magic number per array. Arrays must be float32."""
    out = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        sides = array.shape
        if version == 0:
            out.append(struct.pack(f"<I{len(sides)}I", len(sides), *sides))
        elif version == 1:
            out.append(struct.pack(f"<II{len(sides)}q", 0xF993FAC8, len(sides), *sides))
        else:
            out.append(struct.pack(f"<IiI{len(sides)}q", 0xF993FAC9, 0, len(sides), *sides))
        out += [struct.pack("<iii", 1, 0, 0), np.ascontiguousarray(array, "<f4").tobytes()]
    out.append(struct.pack("<Q", len(arrays)))
    out += [struct.pack("<Q", len(name)) + name.encode() for name in arrays]
    return b"".join(out)


def varint(value) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, payload) -> bytes:
    """A protobuf field: a number or bytes."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def caffe_blob(array, *, legacy=False, packed=True, double=False) -> bytes:
    if legacy:
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(number, side) for number, side in enumerate(sides, start=1))
    elif packed:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    else:
        shape = field(7, b"".join(field(1, side) for side in array.shape))
    kind, number, wire = ("<f8", 8, 1) if double else ("<f4", 5, 5)
    values = np.ascontiguousarray(array, kind).ravel()
    if packed:
        return shape + field(number, values.tobytes())
    return shape + b"".join(varint(number << 3 | wire) + value.tobytes() for value in values)


def caffe_net(layers, *, generation=2, **blob) -> bytes:
    """layers: {name: [blobs]}; generation 1 is V1LayerParameter."""
    net_field, name_field, blob_field = (2, 4, 6) if generation == 1 else (100, 1, 7)
    out = [field(1, b"net")]
    for name, blobs in layers.items():
        body = field(name_field, name.encode()) + field(5 if generation == 1 else 2, 4 if generation == 1 else b"Conv")
        body += b"".join(field(blob_field, caffe_blob(array, **blob)) for array in blobs)
        out.append(field(net_field, body))
    return b"".join(out)


def _text(value) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _number(value) -> bytes:
    return b"J" + struct.pack("<i", value)


def _numbers(values) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def _storages(arrays) -> list:
    """The arrays that need a storage each: those that are not one and the same object."""
    return list({id(array): array for array in arrays.values()}.values())


def torch_pickle(arrays, extra=b"", before_0_4=None) -> bytes:
    """The pickle of a state dict whose storages are numbered.

    extra: pickled key and value to add. before_0_4: b"R" or b"\x81", entries as PyTorch 0.1 wrote parameters, which
    are called ("R") or made ("\x81") with their tensor and then given their flags.
    """
    out = [b"\x80\x02ccollections\nOrderedDict\n)R("]
    keys = {id(array): key for key, array in enumerate(_storages(arrays))}
    for name, array in arrays.items():
        strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
        storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(str(keys[id(array)])) + _text("cpu")
        storage += _number(array.size)
        views = _number(0) + _numbers(array.shape) + _numbers(strides)
        out.append(_text(name))
        if before_0_4:
            out += [b"ctorch.nn.parameter\nParameter\n(ctorch._utils\n_rebuild_tensor\n(", storage, b"NtQ", views, b"tRt"]
            out += [before_0_4, b"(\x88\x89Ntb"]
        else:
            out += [b"ctorch._utils\n_rebuild_tensor_v2\n(", storage, b"tQ", views, b"\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*out, extra, b"u."])


def torch_zip(arrays, pickled=None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled or torch_pickle(arrays))
        for key, array in enumerate(_storages(arrays)):
            archive.writestr(f"archive/data/{key}", np.ascontiguousarray(array, "<f4").tobytes())
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def torch_legacy(arrays, pickled=None) -> bytes:
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    version = b"\x80\x02M\xe9\x03."
    system = b"\x80\x02}(" + _text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + b"".join(_text(str(key)) for key in range(len(_storages(arrays)))) + b"e."
    out = [magic, version, system, pickled or torch_pickle(arrays), keys]
    for array in _storages(arrays):
        out += [struct.pack("<q", array.size), np.ascontiguousarray(array, "<f4").tobytes()]
    return b"".join(out)


@pytest.fixture(scope="session")
def write():
    """The writers: each returns the bytes of a file."""
    return SimpleNamespace(
        mxnet=mxnet_list,
        caffe=caffe_net,
        field=field,
        varint=varint,
        torch_pickle=torch_pickle,
        torch_zip=torch_zip,
        torch_legacy=torch_legacy,
    )


@pytest.fixture(scope="session")
def tiny():
    """Builds conv1a (3x3, 3 -> 8, no bias), bn7, fc8 (1x1, 8 -> 2, no bias): the network of the genuine .pth files."""

    def build():
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv1a")(inputs)
        x = keras.layers.BatchNormalization(epsilon=1e-5, name="bn7")(x)
        return keras.Model(inputs, keras.layers.Conv2D(2, 1, use_bias=False, name="fc8")(x))

    return build


@pytest.fixture(scope="session")
def fill_random():
    """Fills all variables of a model with plausible random values; returns the model."""

    def fill(model, seed=0):
        generator = np.random.default_rng(seed)
        for variable in model.weights:
            if "seed" not in variable.name:
                variable.assign(generator.uniform(0.5, 1.5, variable.shape).astype(np.float32))
        return model

    return fill
