"""Files made to harm, and damaged ones: a WeightsError or a valid result, soon, without large allocations."""

import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights, named_variables, save_weights
from tfwsss.weights.limits import Cursor
from tfwsss.weights.torch_pickle import interpret

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = (
    "safetensors",
    "h5",
    "old_h5",
    "npz",
    "mxnet0",
    "mxnet1",
    "mxnet2",
    "caffe",
    "caffe_v1",
    "zip.pth",
    "legacy.pth",
)
MEMORY = 100 * 2**20
SECONDS = 20.0


@pytest.fixture(autouse=True)
def hdf5_is_stopped_in_time(monkeypatch):
    """Some changed files send libhdf5 into an endless loop."""
    monkeypatch.setattr("tfwsss.weights.hdf5.SECONDS", SECONDS / 2)


@pytest.fixture(scope="module")
def model(tiny):
    return tiny()


@pytest.fixture(scope="module")
def samples(model, write, tmp_path_factory):
    """{format: bytes of a file that fits the tiny model}."""
    folder = tmp_path_factory.mktemp("samples")
    arrays = {name: variable.numpy() for name, variable in named_variables(model).items()}
    blobs = {
        layer: [np.zeros((2, 8, 1, 1))] if layer == "fc8" else [np.zeros((8, 3, 3, 3))] for layer in ("conv1a", "fc8")
    }
    state = {
        "arg:conv1a_weight": np.zeros((8, 3, 3, 3)),
        "arg:fc8_weight": np.zeros((2, 8, 1, 1)),
        "arg:bn7_gamma": np.zeros(8),
        "arg:bn7_beta": np.zeros(8),
        "aux:bn7_moving_mean": np.zeros(8),
        "aux:bn7_moving_var": np.zeros(8),
    }
    save_weights(model, folder / "w.safetensors")
    model.save_weights(str(folder / "w.weights.h5"))
    with h5py.File(folder / "old.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1a", b"bn7", b"fc8"]
        for layer in ("conv1a", "bn7", "fc8"):
            names = [name for name in arrays if name.startswith(layer)]
            file.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                file[layer][name] = arrays[name]
    np.savez_compressed(folder / "w.npz", **arrays)
    return {
        "safetensors": (folder / "w.safetensors").read_bytes(),
        "h5": (folder / "w.weights.h5").read_bytes(),
        "old_h5": (folder / "old.h5").read_bytes(),
        "npz": (folder / "w.npz").read_bytes(),
        **{f"mxnet{version}": write.mxnet(state, version) for version in (0, 1, 2)},
        "caffe": write.caffe(blobs, packed=False),
        "caffe_v1": write.caffe(blobs, generation=1, legacy=True),
        "zip.pth": (FIXTURES / "zip.pth").read_bytes(),
        "legacy.pth": (FIXTURES / "legacy.pth").read_bytes(),
    }


def attempt(model, path, data):
    """Load; anything but a report or a WeightsError fails the test. Returns whether it loaded."""
    path.write_bytes(data)
    begin = time.monotonic()
    try:
        load_weights(model, path, allow_mismatch=True)
        return True
    except WeightsError as error:
        assert str(path) in str(error)
        return False
    finally:
        assert time.monotonic() - begin < SECONDS


@pytest.fixture
def measured():
    """Fails the test if it held more than MEMORY at once (Python's and numpy's allocations)."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


@pytest.mark.parametrize("form", FORMATS)
def test_whole_files_load(model, samples, tmp_path, form):
    assert attempt(model, tmp_path / "file", samples[form])


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_files(model, samples, tmp_path, measured, form):
    data = samples[form]
    loaded = [
        attempt(model, tmp_path / "file", data[:size])
        for size in range(0, len(data), max(1, len(data) // (80 if "h5" not in form else 9)))
    ]
    # The first two thirds of any of them hold no complete weights (protobufs may end after any field).
    assert form.startswith("caffe") or not any(loaded[: len(loaded) * 2 // 3])


@pytest.mark.parametrize("form", FORMATS)
def test_changed_bytes(model, samples, tmp_path, measured, form):
    generator = np.random.default_rng(len(form))
    data = samples[form]
    for trial in range(150 if "h5" not in form else 10):  # every HDF5 file costs a process
        changed = bytearray(data)
        # Half of the trials hit the beginning, where the structure is.
        for position in generator.integers(0, len(data) if trial % 2 else min(len(data), 400), 1 + trial % 3):
            changed[position] = generator.choice([0x00, 0xFF, 0x7F, 0x80, generator.integers(256)])
        attempt(model, tmp_path / "file", bytes(changed))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.sampled_from([b"", b"PK\x03\x04", struct.pack("<QQ", 0x112, 0), b"\x80\x02",
                             struct.pack("<Q", 40) + b"{", b"\xa2\x06"]), body=st.binary(max_size=300))  # fmt: skip
def test_garbage(model, tmp_path, head, body):
    assert not attempt(model, tmp_path / "file", head + body)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(
    [b"(", b")", b"]", b"}", b"t", b"\x85", b"\x86", b"R", b"b", b"Q", b"s", b"u", b"a", b"e", b"q\x00", b"h\x00", b"K\x01",
     b"X\x01\x00\x00\x00a", b"N", b"\x88", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n",
     b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n", b"\x93", b"0", b"2", b"\x94"]), max_size=40))  # fmt: skip
def test_any_sequence_of_pickle_operations(operations):
    try:
        interpret(Cursor(memoryview(b"\x80\x02" + b"".join(operations) + b".")))
    except WeightsError:
        pass


class Command:
    """Runs a shell command when unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["torch_zip", "torch_legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_is_never_executed(model, write, tmp_path, form, protocol, nested):
    witness = tmp_path / "executed"
    command = Command(f"touch {witness}")
    payload = pickle.dumps({"state_dict": {"fc8.weight": command}} if nested else command, protocol)
    path = tmp_path / "evil.pth"
    path.write_bytes(getattr(write, form)({}, pickled=payload))
    with pytest.raises(WeightsError, match=r"posix\.system|nt\.system"):
        load_weights(model, path, allow_mismatch=True)
    assert not witness.exists()
    # The payload is real: the ordinary unpickler runs it.
    pickle.loads(payload)
    assert witness.exists()


@pytest.mark.parametrize("form", ["torch_zip", "torch_legacy"])
@pytest.mark.parametrize("name", [b"builtins\neval", b"builtins\ngetattr", b"torch\nload", b"torch._utils\nos", b"torch\nhub",
                                  b"torch.storage\n_load_from_bytes", b"collections\nnamedtuple", b"torch\nFloatStorage.dtype"])  # fmt: skip
def test_names_beside_a_state_dict_are_refused(model, write, tmp_path, form, name):
    extra = b"X\x01\x00\x00\x00ac" + name + b"\n)R"
    arrays = {"fc8.weight": np.zeros((2, 8, 1, 1), np.float32)}
    path = tmp_path / "file.pth"
    path.write_bytes(getattr(write, form)(arrays, pickled=write.torch_pickle(arrays, extra)))
    with pytest.raises(WeightsError, match=name.decode().replace("\n", ".")):
        load_weights(model, path, allow_mismatch=True)


def test_a_whole_pickled_module_is_refused_by_name(model):
    with pytest.raises(WeightsError, match="__main__.Net"):
        load_weights(model, FIXTURES / "module_zip.pth")


def test_odd_tensors_of_genuine_files():
    from tfwsss.weights.naming import from_torch
    from tfwsss.weights.pytorch import read_legacy, read_zip

    expected = np.load(FIXTURES / "expected.npz")
    state = {name.removeprefix("odd/"): expected[name] for name in expected if name.startswith("odd/")}
    assert {"transposed", "part", "half", "bfloat16", "double", "scalar", "nothing", "again"} <= set(state)
    for read, name in ((read_zip, "odd_zip.pth"), (read_legacy, "odd_legacy.pth")):
        arrays, _ = read(FIXTURES / name, None)
        assert arrays.keys() == from_torch(state).keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, state[key])


def test_tensors_cannot_leave_their_storage_or_be_inflated(model, write, tmp_path, measured):
    shape = struct.pack("<i", 2) + b"J" + struct.pack("<i", 8)  # 2, 8 as in (2, 8, 1, 1)
    arrays = {"fc8.weight": np.zeros((2, 8, 1, 1), np.float32)}
    good = write.torch_pickle(arrays)
    assert good.count(shape) == 1
    for sides in ((2, 9), (1000, 8), (2**31 - 1, 2**31 - 1), (-1, 8)):
        bad = good.replace(shape, struct.pack("<i", sides[0]) + b"J" + struct.pack("<i", sides[1]))
        for form in (write.torch_zip, write.torch_legacy):
            assert not attempt(model, tmp_path / "file.pth", form(arrays, pickled=bad))
    # Stride 0 would make any number of elements from one.
    strides = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in (8, 1, 1, 1)) + b"t"
    assert good.count(strides) == 1
    bad = good.replace(strides, strides.replace(struct.pack("<i", 8), bytes(4))).replace(
        shape, struct.pack("<i", 10**6) + shape[4:]
    )
    assert not attempt(model, tmp_path / "file.pth", write.torch_zip(arrays, pickled=bad))


def test_declared_sizes_are_not_allocated(model, write, tmp_path, measured):
    path = tmp_path / "file"
    huge = struct.pack("<QQQ", 0x112, 0, 2**60)
    assert not attempt(model, path, huge)
    array = struct.pack("<IIqqiii", 0xF993FAC8, 2, 2**40, 2**20, 1, 0, 0)
    assert not attempt(model, path, struct.pack("<QQQ", 0x112, 0, 1) + array + bytes(100))
    assert not attempt(
        model, path, write.field(100, write.field(7, write.field(5, bytes(8)))[:-8] + write.varint(2**40))
    )
    # \x8e: bytes of 2**62; r: memo entry 2**31; \x8b: integer of 2**31 bytes
    for operation in (
        b"\x8e" + struct.pack("<Q", 2**62),
        b"Nr" + struct.pack("<I", 2**31),
        b"\x8b" + struct.pack("<i", 2**31 - 1),
    ):
        assert not attempt(model, path, b"\x80\x04" + operation + b".")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.npy", bytes(80 * 2**20))
    assert not attempt(model, path, path.read_bytes())


def test_a_file_of_tiny_fields_ends_soon(model, write, tmp_path):
    assert not attempt(model, tmp_path / "file", b"\x08\x01" * 1_000_000)
    # Alternating keys: no run is longer than one value.
    blob = (b"\x2d" + bytes(4) + b"\x35" + bytes(4)) * 200_000
    attempt(model, tmp_path / "file", write.field(100, write.field(1, b"conv1a") + write.field(7, blob)))


def test_object_arrays_are_refused(model, tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, **{"fc8/kernel": np.array([Command("exit 1")], object)})
    with pytest.raises(WeightsError, match="type object"):
        load_weights(model, path)


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"hello, world", "no weight file")])
def test_no_weight_file(model, tmp_path, data, message):
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message):
        load_weights(model, path)


def test_a_whole_keras_model_is_named(model, tmp_path):
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(WeightsError, match="save_weights"):
        load_weights(model, path)


def test_messages_stay_short_whatever_the_file_quotes(model, samples, tmp_path):
    """Names of arrays, and libraries that quote what they could not read."""
    data = bytearray(samples["zip.pth"])
    data[26:28] = struct.pack("<H", min(4000, len(data) - 100))  # length of the first entry's name
    save_file({f"{number}{'x' * 5000}/kernel": np.zeros(1, np.float32) for number in range(20)}, tmp_path / "names.safetensors")
    (tmp_path / "zip.pth").write_bytes(data)
    for name in ("zip.pth", "names.safetensors"):
        with pytest.raises(WeightsError) as raised:
            load_weights(model, tmp_path / name)
        assert len(str(raised.value)) < 2000
    names = {**{name: variable.numpy() for name, variable in named_variables(model).items()}, **{f"{number}{'x' * 5000}/kernel": np.zeros(1, np.float32) for number in range(20)}}
    save_file(names, tmp_path / "more.safetensors")
    with pytest.raises(WeightsError) as raised:
        load_weights(model, tmp_path / "more.safetensors")
    assert len(str(raised.value)) < 2000
