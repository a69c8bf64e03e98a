"""ResNet50 files of torchvision and IRN with their genuine keys and shapes, and files for another backbone."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights import load_weights, named_variables
from tfwsss.weights.matching import backbones_of
from tfwsss.weights.naming import from_torch

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "resnet50v15_forward.npz")
DUPLICATES = {"conv1": "stage1.0", "bn1": "stage1.1", "layer1": "stage1.4", "layer2": "stage2.0", "layer3": "stage3.0",
              "layer4": "stage4.0"}  # fmt: skip
SMALL = {"resnet38": 0.05, "vgg16": 0.1, "resnet50": 0.05, "mobilenet": 0.25, "mobilenetv2": 0.35, "efficientnetlite0": 0.125, "efficientnetlite2": 0.125}


def entries(prefix=""):
    """{state-dict key: shape} of torchvision's ResNet50, or of IRN's classifier."""
    shapes = [tuple(int(n) for n in str(shape).split("x") if n) for shape in GOLDEN[f"{prefix}shapes"]]
    return dict(zip(map(str, GOLDEN[f"{prefix}keys"]), shapes, strict=True))


def value_of(key, shape):
    """The weight rule of the golden files."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.float32)
    if key.endswith(("running_mean", ".bias")):
        return (generator.standard_normal(shape) * 0.1).astype(np.float32)
    if key.endswith("running_var") or len(shape) == 1:
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    gain = 0.25 if key.endswith("conv3.weight") else 1
    return (generator.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])) * gain).astype(np.float32)


def irn_state():
    """IRN's state dict: every tensor of its ResNet50 under three names, the last convolution under two."""
    state = {}
    for key in (key for key in entries("irn_") if key.startswith("resnet50.")):
        name = key.removeprefix("resnet50.")
        module, _, rest = name.partition(".")
        stage = f"{DUPLICATES[module]}.{rest}"
        value = value_of(name, entries("irn_")[key])
        state |= dict.fromkeys((key, stage, f"backbone.{int(stage[5]) - 1}{stage[6:]}"), value)
    value = value_of("fc8.weight", entries("irn_")["classifier.weight"])
    return state | dict.fromkeys(("classifier.weight", "newly_added.0.weight"), value)


def images():
    generator = np.random.default_rng(zlib.crc32(b"input_61x75"))
    return generator.standard_normal((2, 3, 61, 75)).astype(np.float32).transpose(0, 2, 3, 1)


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch_zip", "torch_legacy"])
def test_the_classifier_of_irn_gives_its_logits_and_maps(tmp_path, write, form):
    state = irn_state()
    assert {key: value.shape for key, value in state.items()} == entries("irn_")
    path = tmp_path / "res50_cam.pth"
    path.write_bytes(getattr(write, form)(state))
    del state
    model = models.build_classifier("resnet50irn", 20, output_stride=16)
    report = load_weights(model, path)
    path.unlink()
    assert (report.missing, report.unexpected, report.wrong_shape) == ((), (), ())
    np.testing.assert_allclose(model(images()), GOLDEN["irn_logits"], atol=1e-4 * np.abs(GOLDEN["irn_logits"]).max())
    image = images()[:1]
    one, mirrored = tf.nn.relu(models.class_maps(model)(np.concatenate([image, image[:, :, ::-1]])))
    maps = (one + mirrored[:, ::-1]).numpy().transpose(2, 0, 1)
    np.testing.assert_allclose(maps, GOLDEN["irn_cam"], atol=1e-4 * GOLDEN["irn_cam"].max())


@pytest.mark.golden
def test_every_entry_of_torchvision_has_its_variable():
    # Channels are those of the file; the narrow model tells names and kernel sizes. Nothing is allocated.
    named = from_torch({key: np.broadcast_to(np.float32(0), shape) for key, shape in entries().items()})
    assert {named.pop("fc/kernel").shape, named.pop("fc/bias").shape} == {(2048, 1000), (1000,)}
    variables = named_variables(models.build_classifier("resnet50v15", 3, width=0.1))
    assert variables.keys() - named.keys() == {"fc8/kernel"} and not named.keys() - variables.keys()
    for name, array in named.items():
        assert array.shape[:-2] == tuple(variables[name].shape)[:-2], name
    assert named["layer3_0_downsample_0/kernel"].shape == (1, 1, 512, 1024)


def torch_state(model):
    """A model's variables under torchvision's keys."""
    state = {}
    for key in entries():
        module, kind = key.rsplit(".", 1)
        layer = module.replace(".", "_")
        norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        for name in (f"{layer}/kernel" if kind == "weight" else "", f"{layer}/{norm.get(kind)}"):
            if name in named_variables(model):
                value = named_variables(model)[name].numpy()
                state[key] = value.transpose(3, 2, 0, 1).copy() if value.ndim == 4 else value
    return state | {"fc.weight": np.zeros((1000, 8), np.float32), "fc.bias": np.zeros(1000, np.float32)}


@pytest.fixture(scope="module")
def source(fill_random):
    return fill_random(models.build_classifier("resnet50v15", 3, width=0.05))


@pytest.mark.parametrize(
    ("builder", "backbone", "stride"),
    [("classifier", "resnet50v15", 32), ("affinitynet", "resnet50irn", 16), ("segmenter", "resnet50v15", 16)],
)
def test_torchvision_starts_every_network(tmp_path, write, source, builder, backbone, stride):
    path = tmp_path / "resnet50.pth"
    path.write_bytes(write.torch_legacy(torch_state(source)))
    arguments = {"backbone": backbone, "width": 0.05, "output_stride": stride}
    model = models.build(
        {"builder": builder, "arguments": arguments | ({} if builder == "affinitynet" else {"num_classes": 4})}
    )
    report = load_weights(model, path)
    assert set(report.unexpected) >= {"fc/kernel", "fc/bias"}
    assert backbone in backbones_of(named_variables(model))
    expected = named_variables(source)
    for name in (name for name in expected if not name.startswith("fc8")):
        np.testing.assert_array_equal(named_variables(model)[name].numpy(), expected[name].numpy(), err_msg=name)


@pytest.mark.parametrize("backbone", sorted(models.BACKBONES.keys() - {"resnet50v15", "resnet50irn"}))
def test_another_backbone_is_told_the_right_one(tmp_path, write, source, backbone):
    path = tmp_path / "resnet50.pth"
    path.write_bytes(write.torch_zip(torch_state(source)))
    model = models.build_classifier(backbone, 3, width=SMALL[backbone])
    assert backbones_of(named_variables(model)) == (backbone,)
    for allowed in (False, True):
        with pytest.raises(WeightsError, match="look like weights of the backbone resnet50v15 or resnet50irn"):
            load_weights(model, path, allow_mismatch=allowed)


def test_the_second_network_of_irn_is_refused(tmp_path, write, source):
    state = {f"resnet50.{key}": value for key, value in torch_state(source).items()}
    path = tmp_path / "res50_irn.pth"
    path.write_bytes(write.torch_zip(state | {"fc_edge1.0.weight": np.zeros((32, 64, 1, 1), np.float32)}))
    with pytest.raises(WeightsError, match="second network of IRN"):
        load_weights(source, path, allow_mismatch=True)


def test_what_else_is_in_a_file_of_irn_is_reported(tmp_path, write, source):
    state = {f"resnet50.{key}": value for key, value in torch_state(source).items()}
    path = tmp_path / "changed.pth"
    path.write_bytes(write.torch_zip(state | {"attention.weight": np.zeros((8, 8), np.float32)}))
    with pytest.raises(WeightsError, match="attention/kernel"):
        load_weights(source, path)
