"""MXNet, Caffe and PyTorch files: every layout, every name of the reference's networks, values in the right place."""

import functools
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights, named_variables
from tfwsss.weights.naming import from_caffe, from_mxnet, from_torch

GOLDEN = Path(__file__).parent.parent / "golden"
FIXTURES = Path(__file__).parent / "fixtures"
NETWORKS = [("resnet38", "cls", "classifier"), ("resnet38", "aff", "affinitynet"),
            ("vgg16", "cls", "classifier"), ("vgg16", "aff", "affinitynet")]  # fmt: skip


def reference_entries(backbone, network):
    """{state-dict key: shape} of a network of the reference code."""
    golden = np.load(GOLDEN / f"{backbone}_{network}_forward.npz")
    shapes = [tuple(int(n) for n in re.findall(r"\d+", str(shape))) for shape in golden["shapes"]]
    shapes = [
        () if str(key).endswith("num_batches_tracked") else s for key, s in zip(golden["keys"], shapes, strict=True)
    ]
    return dict(zip(map(str, golden["keys"]), shapes, strict=True))


@functools.cache
def _built(backbone, builder, width):
    arguments = {"backbone": backbone, "width": width}
    if builder == "classifier":
        arguments["num_classes"] = 20
    return models.build({"builder": builder, "arguments": arguments})


def build(backbone, builder, width):
    """A model of zeros (building one takes a second, so there is one for all tests)."""
    model = _built(backbone, builder, width)
    for variable in named_variables(model).values():
        variable.assign(np.zeros(variable.shape))
    return model


def narrow_state(backbone, network, model, seed=0):
    """Random arrays in PyTorch layout under the reference's keys, in the model's width; and the values expected.

    The mapping is spelled out again here, from the variable's side.
    """
    generator = np.random.default_rng(seed)
    variables = named_variables(model)
    state, expected = {}, {}
    for key in reference_entries(backbone, network):
        module, kind = key.rsplit(".", 1)
        layer = module.replace(".", "_")
        if kind == "num_batches_tracked":
            state[key] = np.zeros((), np.float32)
            continue
        candidates = {"weight": ("kernel", "gamma"), "bias": ("bias", "beta"),
                      "running_mean": ("moving_mean",), "running_var": ("moving_variance",)}[kind]  # fmt: skip
        (name,) = [f"{layer}/{v}" for v in candidates if f"{layer}/{v}" in variables]
        value = generator.standard_normal(variables[name].shape).astype(np.float32)
        expected[name] = value
        state[key] = np.moveaxis(value, (3, 2, 0, 1), (0, 1, 2, 3)) if value.ndim == 4 else value
    assert expected.keys() == variables.keys()
    return state, expected


def assert_loaded(model, expected, but=()):
    for name, variable in named_variables(model).items():
        if name not in but:
            np.testing.assert_array_equal(variable.numpy(), expected[name], err_msg=name)


def to_mxnet(key):
    """The MXNet name of a state-dict key of ResNet38."""
    module, kind = key.rsplit(".", 1)
    unit = re.fullmatch(r"b(\d)(?:_(\d))?\.(conv|bn)_(branch\w+)", module)
    if unit:
        number = "a" if unit[2] is None else f"b{unit[2]}"
        module = f"{'res' if unit[3] == 'conv' else 'bn'}{unit[1]}{number}_{unit[4]}"
    if "bn" not in key:
        return f"arg:{module}_weight"
    return {"weight": "arg:{}_gamma", "bias": "arg:{}_beta", "running_mean": "aux:{}_moving_mean",
            "running_var": "aux:{}_moving_var"}[kind].format(module)  # fmt: skip


@pytest.mark.golden
@pytest.mark.parametrize(("backbone", "network", "builder"), NETWORKS)
@pytest.mark.parametrize("form", ["torch_zip", "torch_legacy"])
def test_pytorch_files_of_the_reference(tmp_path, write, backbone, network, builder, form):
    model = build(backbone, builder, 0.05)
    state, expected = narrow_state(backbone, network, model)
    path = tmp_path / "net.pth"
    path.write_bytes(getattr(write, form)(state))
    report = load_weights(model, path)
    assert (report.format, report.missing, report.unexpected) == ("PyTorch", (), ())
    assert_loaded(model, expected)


@pytest.mark.golden
@pytest.mark.parametrize(("backbone", "network", "builder"), NETWORKS)
def test_full_width_names_and_shapes_of_the_reference(backbone, network, builder):
    # The narrow model tells names and kernel sizes; channels are those of the reference file. Nothing is allocated.
    entries = reference_entries(backbone, network)
    named = from_torch({key: np.broadcast_to(np.float32(0), shape) for key, shape in entries.items()})
    variables = named_variables(build(backbone, builder, 0.05))
    assert named.keys() == variables.keys()
    for name, variable in variables.items():
        assert len(named[name].shape) == len(variable.shape)
        assert named[name].shape[:-2] == tuple(variable.shape)[:-2]
    assert named["conv1a/kernel" if backbone == "resnet38" else "conv1_1/kernel"].shape == (3, 3, 3, 64)
    if network == "cls":
        assert named["fc8/kernel"].shape == (1, 1, 4096 if backbone == "resnet38" else 1024, 20)
    else:
        assert named["f8_5/kernel"].shape == (1, 1, 4096 if backbone == "resnet38" else 1024, 256)


@pytest.mark.golden
@pytest.mark.parametrize("version", [0, 1, 2])
def test_mxnet_resnet38(tmp_path, write, version):
    model = build("resnet38", "classifier", 0.05)
    state, expected = narrow_state("resnet38", "cls", model)
    arrays = {to_mxnet(key): value for key, value in state.items() if "num_batches" not in key and "fc8" not in key}
    assert len(arrays) == 191
    arrays |= {"arg:linear1000_weight": np.zeros((1000, 8), np.float32), "arg:linear1000_bias": np.zeros(1000)}
    path = tmp_path / "rna-a1.params"
    path.write_bytes(write.mxnet(arrays, version))
    report = load_weights(model, path)
    assert (report.format, report.missing) == ("MXNet", ("fc8/kernel",))
    assert report.unexpected == ("linear1000/kernel", "linear1000/bias")
    assert_loaded(model, expected, but=("fc8/kernel",))


@pytest.mark.parametrize(("generation", "options"), [
    (2, {}),
    (2, {"packed": False}),
    (2, {"double": True}),
    (2, {"double": True, "packed": False}),
    (1, {"legacy": True}),
    (1, {"legacy": True, "packed": False}),
])  # fmt: skip
def test_caffe_vgg16(tmp_path, write, generation, options):
    model = build("vgg16", "classifier", 0.1)
    generator = np.random.default_rng(3)
    layers = {}
    for name, variable in named_variables(model).items():
        value = generator.standard_normal(variable.shape).astype(np.float32)
        layers.setdefault(name.split("/")[0], []).append(value)
    blobs = {
        name: [np.moveaxis(value, (3, 2, 0, 1), (0, 1, 2, 3)) if value.ndim == 4 else value for value in values]
        for name, values in layers.items()
        if name != "fc8"
    }
    blobs["fc8_voc12"] = [np.zeros((21, 8, 1, 1), np.float32), np.zeros(21, np.float32)]
    path = tmp_path / "vgg16_20M.caffemodel"
    path.write_bytes(write.caffe(blobs, generation=generation, **options))
    report = load_weights(model, path)
    assert (report.format, report.missing) == ("Caffe", ("fc8/kernel",))
    assert report.unexpected == ("fc8_voc12/kernel", "fc8_voc12/bias")
    expected = {
        f"{name}/{v}": a for name, values in layers.items() for v, a in zip(("kernel", "bias"), values, strict=False)
    }
    assert_loaded(model, expected, but=("fc8/kernel",))


def test_the_common_vgg16_with_dense_layers_does_not_pass_for_deeplabs(tmp_path, write):
    model = build("vgg16", "classifier", 0.1)
    layers = {}
    for name, variable in named_variables(model).items():
        shape = tuple(variable.shape)
        layers.setdefault(name.split("/")[0], []).append(
            np.zeros((shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape)
        )
    layers["fc6"][0] = np.zeros((104, 104 * 49))
    path = tmp_path / "vgg.caffemodel"
    path.write_bytes(write.caffe(layers))
    with pytest.raises(WeightsError, match="fc6/kernel"):
        load_weights(model, path)


def test_names_spelled_out():
    kernel, vector = np.zeros((4, 3, 2, 1)), np.zeros(4)
    torch = {"b2_1.conv_branch2a.weight": kernel, "gn8_3.weight": vector, "gn8_3.bias": vector, "fc6.bias": vector,
             "fc6.weight": kernel, "bn7.running_var": vector, "bn7.weight": vector}  # fmt: skip
    assert {name: array.shape for name, array in from_torch(torch).items()} == {
        "b2_1_conv_branch2a/kernel": (2, 1, 3, 4),
        "gn8_3/gamma": (4,),
        "gn8_3/beta": (4,),
        "fc6/bias": (4,),
        "fc6/kernel": (2, 1, 3, 4),
        "bn7/moving_variance": (4,),
        "bn7/gamma": (4,),
    }
    mxnet = ["arg:res2a_branch1_weight", "arg:bn4b3_branch2b1_gamma", "aux:bn7_moving_var", "arg:conv1a_weight",
             "aux:bn6a_branch2b2_moving_mean", "arg:res5b2_branch2b1_weight"]  # fmt: skip
    assert list(from_mxnet(dict.fromkeys(mxnet, vector))) == [
        "b2_conv_branch1/kernel",
        "b4_3_bn_branch2b1/gamma",
        "bn7/moving_variance",
        "conv1a/kernel",
        "b6_bn_branch2b2/moving_mean",
        "b5_2_conv_branch2b1/kernel",
    ]
    assert from_caffe({"fc6": [kernel, np.zeros((1, 1, 1, 4))]})["fc6/bias"].shape == (4,)


@pytest.mark.parametrize("name", ["zip", "legacy", "wrapped_zip", "wrapped_legacy"])
def test_genuine_pytorch_files(tiny, name):
    expected = np.load(FIXTURES / "expected.npz")
    model = tiny()
    report = load_weights(model, FIXTURES / f"{name}.pth")
    assert (len(report.loaded), report.missing, report.unexpected) == (6, (), ())
    np.testing.assert_array_equal(model.get_layer("conv1a").kernel, expected["net/conv1a.weight"].transpose(2, 3, 1, 0))
    bn = ("weight", "bias", "running_mean", "running_var")
    for value, entry in zip(model.get_layer("bn7").get_weights(), bn, strict=True):
        np.testing.assert_array_equal(value, expected[f"net/bn7.{entry}"])


@pytest.mark.parametrize("form", ["torch_zip", "torch_legacy"])
@pytest.mark.parametrize("made", [b"R", b"\x81"])
def test_parameters_of_the_first_pytorch(tiny, write, tmp_path, form, made):
    expected = np.load(FIXTURES / "expected.npz")
    state = {name.removeprefix("net/"): expected[name] for name in expected if name.startswith("net/")}
    del state["bn7.num_batches_tracked"]
    path = tmp_path / "old.pth"
    path.write_bytes(getattr(write, form)(state, pickled=write.torch_pickle(state, before_0_4=made)))
    model = tiny()
    assert load_weights(model, path).missing == ()
    np.testing.assert_array_equal(model.get_layer("conv1a").kernel, state["conv1a.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(model.get_layer("fc8").kernel, state["fc8.weight"].transpose(2, 3, 1, 0))


def golden_value(key, shape):
    """The weight rule of the golden files."""
    g = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith(("running_mean", ".bias")):
        return (g.standard_normal(shape) * 0.1).astype(np.float32)
    if key.endswith("running_var") or len(shape) == 1:
        return g.uniform(0.5, 1.5, shape).astype(np.float32)
    gain = 0.25 if key.endswith(("conv_branch2b1.weight", "conv_branch2b2.weight")) else 1
    return (g.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])) * gain).astype(np.float32)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "form"), [("vgg16", "caffe"), ("resnet38", "mxnet")])
def test_a_full_network_through_its_file_gives_the_reference_logits(tmp_path, write, backbone, form):
    state = {k: golden_value(k, s) for k, s in reference_entries(backbone, "cls").items() if "num_batches" not in k}
    path = tmp_path / "weights"
    if form == "mxnet":
        path.write_bytes(write.mxnet({to_mxnet(key): value for key, value in state.items()}, version=1))
    else:
        layers = {key.rsplit(".", 1)[0]: [] for key in state}
        for layer, blobs in layers.items():
            blobs += [state[f"{layer}.{kind}"] for kind in ("weight", "bias") if f"{layer}.{kind}" in state]
        path.write_bytes(write.caffe(layers))
    del state
    model = models.build_classifier(backbone, 20)
    assert load_weights(model, path).missing == ()
    path.unlink()
    size = (61, 75)
    images = np.random.default_rng(zlib.crc32(b"input_%dx%d" % size)).standard_normal((2, 3, *size)).astype(np.float32)
    golden = np.load(GOLDEN / f"{backbone}_cls_forward.npz")
    logits = np.asarray(model(images.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, golden["logits_61x75"], atol=1e-4)
