"""The reference weights of the golden files: every tensor drawn from a generator seeded by its state-dict key."""

import gc
import zlib

import keras
import numpy as np
import pytest


def reference_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a state-dict entry in PyTorch layout, float32 (the rule of the golden files)."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("running_mean") or key.endswith(".bias"):
        value = generator.standard_normal(shape) * 0.1
    elif key.endswith("running_var") or len(shape) == 1:
        value = generator.uniform(0.5, 1.5, shape)
    else:
        gain = 0.5 if key.startswith("f9") else 1.0
        if key.endswith(("conv_branch2b1.weight", "conv_branch2b2.weight", "conv3.weight")):
            gain = 0.25
        value = generator.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])) * gain
    return value.astype(np.float32)


def variable_of(model: keras.Model, key: str):
    """The Keras variable of a state-dict key `a.b.weight`: a variable of layer `a_b`."""
    module, _, kind = key.rpartition(".")
    layer = model.get_layer(module.replace(".", "_"))
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel if kind == "weight" else layer.bias
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    return getattr(layer, names[kind])


def load_reference_weights(model: keras.Model, golden) -> None:
    """Give every variable of the model its reference value; checks the numpy generator on the way."""
    first = dict(zip(golden["keys"], golden["key_first"], strict=True)) if "key_first" in golden else {}
    for key, shape, total in zip(golden["keys"], golden["shapes"], golden["key_sums"], strict=True):
        if key.endswith("num_batches_tracked") or key.startswith("fc."):  # fc: torchvision's 1000 classes
            continue
        value = reference_tensor(str(key), tuple(int(n) for n in shape.split("x")))
        assert abs(value.sum(dtype=np.float64) - total) < 1e-3, f"numpy draws other numbers for {key}"
        assert value.flat[0] == first.get(key, value.flat[0]), f"numpy draws another first number for {key}"
        variable_of(model, str(key)).assign(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)


def reference_input(height: int, width: int) -> np.ndarray:
    """The golden input image batch, [2, H, W, 3]."""
    generator = np.random.default_rng(zlib.crc32(b"input_%dx%d" % (height, width)))
    return generator.standard_normal((2, 3, height, width)).astype(np.float32).transpose(0, 2, 3, 1)


def varied_weights(model: keras.Model) -> list[np.ndarray]:
    """Random weights that keep activations of order 1 and make every normalisation count."""
    generator = np.random.default_rng(0)
    values = []
    for variable in model.weights:
        shape, name = tuple(variable.shape), variable.name
        if len(shape) == 4:
            inputs = 1 if "depthwise" in name or shape[-1] == 1 else shape[2]
            values.append(generator.standard_normal(shape) * np.sqrt(2.0 / (shape[0] * shape[1] * inputs)))
        elif "variance" in name or "gamma" in name:
            values.append(generator.uniform(0.5, 1.5, shape))
        else:
            values.append(generator.standard_normal(shape) * 0.1)
    return values


@pytest.fixture(name="varied_weights")
def _varied_weights():
    return varied_weights


@pytest.fixture
def release_models():
    """For tests of full-size networks, which hold 0.4 GB each."""
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture
def reference():
    """The functions above, for the tests (conftest modules cannot be imported)."""

    class Reference:
        tensor = staticmethod(reference_tensor)
        variable_of = staticmethod(variable_of)
        load_weights = staticmethod(load_reference_weights)
        input = staticmethod(reference_input)

    return Reference
