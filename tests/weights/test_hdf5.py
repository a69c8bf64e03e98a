"""Keras weight files in all their layouts."""

import functools
import gzip
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights, named_variables
from tfwsss.weights.variables import layer_variables


def values(model):
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


def assert_equal(model, other, but=()):
    expected = values(other)
    for name, value in values(model).items():
        if name not in but:
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def network(fill_random):
    """Branches, depthwise convolutions, batch normalisation, dropout."""
    return fill_random(models.build_segmenter("mobilenetv2", 3, width=0.35))


@pytest.fixture
def saved(network, tmp_path):
    path = tmp_path / "w.weights.h5"
    network.save_weights(str(path))
    return path


@functools.cache
def _built(kind):
    return models.build({"builder": kind, "arguments": {"backbone": "mobilenetv2", "width": 0.35, "num_classes": 3}})


def fresh(kind="segmenter"):
    """A model of zeros (building one takes a second, so there is one for all tests)."""
    for variable in named_variables(_built(kind)).values():
        variable.assign(np.zeros(variable.shape))
    return _built(kind)


def strip_names(path):
    """As written by versions before 3.9, whose groups are numbered and nothing else."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, node: node.attrs.clear())


def test_keras_own_file(network, saved):
    model = fresh()
    assert len(load_weights(model, saved).loaded) == 294
    assert_equal(model, network)


def test_the_suffix_does_not_matter(network, saved, tmp_path):
    path = saved.rename(tmp_path / "weights.params")
    assert load_weights(fresh(), path).format == "HDF5"


def test_numbered_groups_follow_the_order_of_layers(network, saved):
    strip_names(saved)
    model = fresh()
    load_weights(model, saved)
    assert_equal(model, network)


def test_numbered_groups_of_a_backbone_skip_the_head(network, tmp_path):
    layers = [layer for layer in network.layers if layer.name not in models.head_layers(network)]
    path = tmp_path / "notop.weights.h5"
    counts = {}
    with h5py.File(path, "w") as file:
        for layer in layers:
            if not layer_variables(layer):
                continue
            # A network of keras.applications has no class of this package in it.
            group = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}.get(
                type(layer).__name__, "depthwise_conv2d"
            )
            number = counts[group] = counts.get(group, -1) + 1
            for index, value in enumerate(layer.get_weights()):
                file[f"_layer_checkpoint_dependencies/{group}{f'_{number}' if number else ''}/vars/{index}"] = value
    model = fresh("classifier")
    assert load_weights(model, path).missing == ("fc8/kernel",)
    assert_equal(model, network, but=("fc8/kernel",))


def test_numbered_groups_that_do_not_fit_are_an_error(saved):
    strip_names(saved)
    with h5py.File(saved, "r+") as file:
        del file["layers/conv2d_5"]
    with pytest.raises(WeightsError, match="none of the"):
        load_weights(fresh(), saved)


def test_optimizer_metrics_and_random_generators_are_no_weights(tmp_path, tiny):
    model = tiny()
    x = keras.layers.Dropout(0.5, seed=1)(model.output)
    trained = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(x))
    trained.compile("adam", "mse", metrics=["mae"])
    trained.fit(np.ones((2, 8, 8, 3)), np.ones((2, 2)), verbose=0)
    path = tmp_path / "trained.weights.h5"
    trained.save_weights(str(path))
    other = tiny()
    report = load_weights(other, path)
    assert (report.missing, report.unexpected) == ((), ())
    assert_equal(other, model)


def write_legacy(group, model, *, nested=None):
    """The layout of Keras 1 and 2; `nested`: everything inside the group of one model of that name."""
    groups = {} if nested is None else {nested: {}}
    for layer in model.layers:
        weights = {n: v.numpy() for n, v in named_variables(model).items() if n.split("/")[0] == layer.name}
        groups.setdefault(nested or layer.name, {}).update(weights)
    for group_name, weights in groups.items():
        target = group.create_group(group_name)
        paths = [f"{name}:0".replace("depthwise/kernel", "depthwise/depthwise_kernel") for name in weights]
        target.attrs["weight_names"] = [path.encode() for path in paths]
        for path, value in zip(paths, weights.values(), strict=True):
            target[path] = value
    names = [name.encode() for name in groups]
    half = (len(names) + 1) // 2  # long lists are split
    group.attrs["layer_names0"] = names[:half]
    group.attrs["layer_names1"] = names[half:]


@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_2_layout(network, tmp_path, whole_model):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        write_legacy(file.create_group("model_weights") if whole_model else file, network)
        if whole_model:
            file["optimizer_weights/momentum"] = np.zeros(3)
    model = fresh()
    assert len(load_weights(model, path).loaded) == 294
    assert_equal(model, network)


def test_keras_2_layout_with_a_model_inside(tmp_path, tiny, fill_random):
    source, path = fill_random(tiny()), tmp_path / "nested.h5"
    with h5py.File(path, "w") as file:
        write_legacy(file, source, nested="backbone")
    model = tiny()
    load_weights(model, path)
    assert_equal(model, source)


def test_a_top_for_1000_classes_is_ignored(network, tmp_path):
    path = tmp_path / "top.h5"
    with h5py.File(path, "w") as file:
        write_legacy(file, network)
        group = file.create_group("predictions")
        group.attrs["weight_names"] = [b"predictions/kernel:0", b"predictions/bias:0"]
        group["predictions/kernel:0"], group["predictions/bias:0"] = np.zeros((1280, 1000)), np.zeros(1000)
        file.attrs["layer_names2"] = [b"predictions"]
    assert load_weights(fresh(), path).unexpected == ("predictions/0", "predictions/1")


def test_another_file_is_never_followed(saved, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.zeros((3, 3, 3, 16), np.float32)
    with h5py.File(saved, "r+") as file:
        first = file["layers/conv2d/vars"]
        del first["0"]
        first["0"] = h5py.ExternalLink(str(other), "/secret")
    with pytest.raises(WeightsError, match="link"):
        load_weights(fresh(), saved)
    with h5py.File(saved, "r+") as file:
        del file["layers/conv2d/vars/0"]
        layout = h5py.VirtualLayout((3, 3, 3, 16), np.float32)
        layout[:] = h5py.VirtualSource(str(other), "secret", (3, 3, 3, 16))
        file["layers/conv2d/vars"].create_virtual_dataset("0", layout)
    with pytest.raises(WeightsError, match="another file"):
        load_weights(fresh(), saved)
    with h5py.File(saved, "r+") as file:
        del file["layers/conv2d/vars/0"]
        raw = [("/etc/hostname", 0, 3 * 3 * 3 * 16 * 4)]
        file["layers/conv2d/vars"].create_dataset("0", (3, 3, 3, 16), np.float32, external=raw)
    with pytest.raises(WeightsError, match="another file"):
        load_weights(fresh(), saved)


def test_a_session_that_is_limited_already_reads_within_its_limits(saved, tmp_path):
    """As under `ulimit -t` or in a batch system's job, whose limits a process may not raise."""
    from tfwsss.weights import hdf5_process

    limits = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_CPU, (8, 8)); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", limits, hdf5_process.__file__, saved, tmp_path / "out.npz", "100000000", "60"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        assert "error" not in str(found["index"]) and len(found.files) > 1


def test_an_implausibly_large_array_is_not_allocated(saved):
    with h5py.File(saved, "r+") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars"].create_dataset("0", (2**20, 2**16), np.float32, chunks=(64, 64), compression="gzip")
    with pytest.raises(WeightsError, match="implausible"):
        load_weights(fresh(), saved)


@pytest.mark.parametrize("limit, of", [("SECONDS", "seconds:"), ("PROCESSOR_SECONDS", "seconds of processor time:")])
def test_reading_that_does_not_end_is_stopped(saved, tmp_path, monkeypatch, limit, of):
    # A file whose attribute sends libhdf5 into an endless loop, found by changing bytes at random.
    monkeypatch.setattr(f"tfwsss.weights.hdf5.{limit}", 3.0)
    with gzip.open(Path(__file__).parent / "fixtures" / "endless.h5.gz") as file:
        path = tmp_path / "endless.h5"
        path.write_bytes(file.read())
    with pytest.raises(WeightsError, match=f"stopped after [34] {of}|failed|Error"):
        load_weights(fresh(), path)


def test_no_weight_file(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(WeightsError, match="no weight file of Keras"):
        load_weights(fresh(), path)


@pytest.mark.photos
@pytest.mark.parametrize(
    ("name", "backbone", "width", "count"),
    [
        ("mobilenet_v2_1.0_notop_slim_imagenet.weights.h5", "mobilenetv2", 1.0, 260),
        ("mobilenet_v2_1.0_notop_slim_imagenet.npz", "mobilenetv2", 1.0, 260),
        ("mobilenet_v1_0.75_notop_imagenet.weights.h5", "mobilenet", 0.75, 135),
    ],
)
def test_real_imagenet_weights(name, backbone, width, count):
    folder = os.environ.get("TFWSSS_WEIGHTS")
    if folder is None:
        pytest.skip("TFWSSS_WEIGHTS is not the folder of the ImageNet weights")
    path = Path(folder) / name
    model = models.build_classifier(backbone, 6, width=width)
    report = load_weights(model, path)
    assert (len(report.loaded), report.missing) == (count, ("fc8/kernel",))
    # Keras' own loader and keras.applications' own graph must see the same features.
    application = {"mobilenet": keras.applications.MobileNet, "mobilenetv2": keras.applications.MobileNetV2}[backbone]
    published = application(weights=None, include_top=False, alpha=width, input_shape=(64, 64, 3))
    h5 = path.with_suffix(".weights.h5") if path.suffix == ".npz" else path
    published.load_weights(str(h5))
    for name, variable in named_variables(published).items():
        np.testing.assert_array_equal(values(model)[name], variable.numpy(), err_msg=name)
