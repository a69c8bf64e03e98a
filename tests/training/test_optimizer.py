"""Ten steps of the reference's optimiser, and the other rules against loops in float64."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfwsss.config import Optimizer
from tfwsss.models import build_affinitynet, build_classifier, head_layers
from tfwsss.training.optimizer import MOMENTUM, GroupedOptimizer, ParameterGroup, parameter_group, trainable_variables

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 12
HEAD = {"head"}


def variables_of(values):
    return {name: tf.Variable(value, dtype=tf.float32, name=name) for name, value in values.items()}


def run(settings, values, gradients, *, momentum, total_steps, usable=None):
    """Trajectory {name: [step, ...]} of the optimiser."""
    variables = variables_of(values)
    optimizer = GroupedOptimizer(variables, HEAD, settings, total_steps, momentum)
    step = tf.function(lambda g: optimizer.apply(g, usable))
    trajectory = {name: [] for name in values}
    for index in range(len(next(iter(gradients.values())))):
        step([tf.constant(gradients[name][index], tf.float32) for name in variables])
        for name, variable in variables.items():
            trajectory[name].append(variable.numpy())
    return {name: np.array(steps) for name, steps in trajectory.items()}, optimizer


def random_problem(seed=0, steps=STEPS):
    rng = np.random.default_rng(seed)
    shapes = {"conv/kernel": (3, 2), "conv/bias": (2,), "head/kernel": (2, 2), "head/bias": (2,)}
    values = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return values, {name: rng.standard_normal((steps, *shape)) for name, shape in shapes.items()}


MULTIPLIERS = {"conv/kernel": 1.0, "conv/bias": 2.0, "head/kernel": 10.0, "head/bias": 20.0}


def loop(rule, values, gradients, settings, total_steps):
    """The same in float64: `rule(step, gradient, state)` gives the direction of the update."""
    result = {}
    for name, value in values.items():
        value, state, steps = value.astype(np.float64), {}, []
        decay = settings.weight_decay if name.endswith("kernel") else 0.0
        for step, gradient in enumerate(gradients[name]):
            rate = settings.learning_rate * MULTIPLIERS[name] * (1 - min(step, total_steps - 1) / total_steps) ** 0.9
            value = value - rate * rule(step, gradient + decay * value, state)
            steps.append(value)
        result[name] = np.array(steps)
    return result


@pytest.mark.golden
def test_ten_steps_are_the_references():
    golden = np.load(GOLDEN / "train_pieces.npz")
    rate, decay, total_steps = golden["opt_lr_wd_max"]
    np.testing.assert_array_equal(golden["opt_momentum"], MOMENTUM["faithful"])
    names = ["conv/kernel", "conv/bias", "head/kernel", "head/bias"]  # the reference's groups, in its order
    values = dict(zip(names, golden["opt_init"], strict=True))
    gradients = dict(zip(names, golden["opt_grads"].transpose(1, 0, 2), strict=True))
    settings = Optimizer(learning_rate=rate, weight_decay=decay)
    found, _ = run(settings, values, gradients, momentum=MOMENTUM["faithful"], total_steps=int(total_steps))
    for index, name in enumerate(names):
        np.testing.assert_allclose(found[name], golden["opt_traj"][:, index], rtol=1e-5, atol=1e-5)


@pytest.mark.golden
def test_learning_rates_are_the_references_also_behind_the_last_step():
    golden = np.load(GOLDEN / "train_pieces.npz")
    rate, decay, total_steps = golden["opt_lr_wd_max"]
    settings = Optimizer(learning_rate=rate, weight_decay=decay)
    optimizer = GroupedOptimizer(variables_of({"conv/kernel": [0.0]}), HEAD, settings, int(total_steps), 0.0)
    for expected in golden["opt_lrs"]:
        np.testing.assert_allclose(float(optimizer.learning_rate()) * np.array([1, 2, 10, 20]), expected, rtol=1e-6)
        optimizer.step.assign_add(1)


def test_decoupled_decay_shrinks_the_kernels_beside_the_step():
    settings = Optimizer(learning_rate=0.02, weight_decay=0.5, decay="decoupled")
    values, gradients = random_problem(4)
    found, _ = run(settings, values, gradients, momentum=0.9, total_steps=20)
    for name, value in values.items():
        velocity = 0.0
        for step, gradient in enumerate(gradients[name]):
            rate = 0.02 * MULTIPLIERS[name] * (1 - step / 20) ** 0.9
            velocity = 0.9 * velocity + gradient
            value = value * (1 - rate * (0.5 if name.endswith("kernel") else 0.0)) - rate * velocity
            np.testing.assert_allclose(found[name][step], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM["corrected"]])
def test_sgd_is_pytorchs(momentum):
    settings = Optimizer(learning_rate=0.02, weight_decay=0.01)

    def rule(step, gradient, state):
        state["velocity"] = gradient if step == 0 else momentum * state["velocity"] + gradient
        return state["velocity"]

    values, gradients = random_problem()
    found, _ = run(settings, values, gradients, momentum=momentum, total_steps=20)
    for name, expected in loop(rule, values, gradients, settings, 20).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)


def test_momentum_of_the_two_switch_values_differs_where_keras_would_differ_too():
    """With a falling rate, Keras' form (rate inside the velocity) and PyTorch's part ways; ours is PyTorch's."""
    settings = Optimizer(learning_rate=0.02, weight_decay=0.0)
    values, gradients = random_problem()

    def keras_rule(step, gradient, state):
        rate = (1 - step / 20) ** 0.9
        state["velocity"] = MOMENTUM["corrected"] * state.get("velocity", 0) + rate * gradient
        return state["velocity"] / rate

    found, _ = run(settings, values, gradients, momentum=MOMENTUM["corrected"], total_steps=20)
    other = loop(keras_rule, values, gradients, settings, 20)
    assert np.abs(found["conv/kernel"] - other["conv/kernel"]).max() > 0.01


def test_adam():
    settings = Optimizer(name="adam", learning_rate=0.003, weight_decay=0.01)

    def rule(step, gradient, state):
        state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
        state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
        corrected = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        return corrected * state["m"] / (np.sqrt(state["v"]) + 1e-8)

    values, gradients = random_problem(1)
    found, _ = run(settings, values, gradients, momentum=0.9, total_steps=STEPS)
    for name, expected in loop(rule, values, gradients, settings, STEPS).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


def test_clip_norm_limits_the_norm_over_all_variables():
    values, gradients = random_problem(2, steps=1)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    settings = Optimizer(learning_rate=0.1, weight_decay=0.0, clip_norm=norm / 4)
    found, _ = run(settings, values, gradients, momentum=0.0, total_steps=10)
    for name, multiplier in MULTIPLIERS.items():
        expected = values[name] - 0.1 * multiplier * gradients[name][0] / 4
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-5, atol=1e-6)
    loose = settings.model_copy(update={"clip_norm": 2 * norm})
    found, _ = run(loose, values, gradients, momentum=0.0, total_steps=10)
    np.testing.assert_allclose(found["conv/bias"][0], values["conv/bias"] - 0.2 * gradients["conv/bias"][0], rtol=1e-5)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_an_unusable_step_changes_nothing_but_the_schedule(rule):
    values, gradients = random_problem(3, steps=1)
    gradients["conv/kernel"][0, 0] = np.inf
    settings = Optimizer(name=rule, learning_rate=0.1)
    found, optimizer = run(settings, values, gradients, momentum=0.9, total_steps=4, usable=tf.constant(False))
    for name, value in values.items():
        np.testing.assert_array_equal(found[name][0], value.astype(np.float32))
    for name, slot in optimizer.state().items():
        untouched = {"step": 1, "applied_rate": np.float32(0.1)}.get(name, 0)  # the second is MultiOptimizer's
        assert np.all(slot.numpy() == untouched), name


@pytest.mark.parametrize(
    ("name", "head", "multiplier", "decays"),
    [
        ("b4_conv_branch1/kernel", False, 1, True),
        ("conv4_1/bias", False, 2, False),
        ("fc8/kernel", True, 10, True),
        ("score/bias", True, 20, False),
        ("gn8_3/gamma", False, 1, True),
        ("gn8_3/beta", False, 2, False),
        ("bn7/gamma", False, 1, False),
        ("bn7/beta", False, 2, False),
        ("block/separable/depthwise_kernel", False, 1, True),
    ],
)
def test_groups(name, head, multiplier, decays):
    assert parameter_group(name, head, Optimizer()) == ParameterGroup(multiplier, 5e-4 if decays else 0.0)


def trained(model):
    return GroupedOptimizer(trainable_variables(model), head_layers(model), Optimizer(), 10, 0.0)


def test_groups_of_the_references_networks():
    """Which tensors the reference puts where: for ResNet38 no bias at all, for VGG16 the group normalisation with the backbone."""
    resnet = trained(build_classifier("resnet38", 3, width=0.0625))
    assert {group for group in resnet.groups} == {ParameterGroup(1, 5e-4), ParameterGroup(10, 5e-4)}
    assert [n for n, g in zip(resnet.names, resnet.groups, strict=True) if g.multiplier == 10] == ["fc8/kernel"]
    assert not [name for name in resnet.names if name.startswith(("conv1a", "b2_")) or "_bn_" in name or "bn7" in name]

    vgg = trained(build_affinitynet("vgg16", width=0.0625, features=56))
    groups = dict(zip(vgg.names, vgg.groups, strict=True))
    assert groups["gn8_4/gamma"] == ParameterGroup(1, 5e-4) and groups["gn8_4/beta"] == ParameterGroup(2, 0)
    assert groups["conv5_1/kernel"] == ParameterGroup(1, 5e-4) and groups["conv5_1/bias"] == ParameterGroup(2, 0)
    assert {name for name, group in groups.items() if group.multiplier >= 10} == {f"{n}/kernel" for n in ("f8_3", "f8_4", "f8_5", "f9")}
    assert not [name for name in groups if name.startswith(("conv1_", "conv2_"))]
