"""tensorflow-addons' MultiOptimizer against this project's own steps, where both exist."""

import numpy as np
import pytest
import tensorflow as tf

from tfwsss import stack
from tfwsss.config import Optimizer
from tfwsss.models import build_classifier, head_layers
from tfwsss.stack.grouped_updates import GroupedUpdates
from tfwsss.training.loop import make_deterministic
from tfwsss.training.optimizer import GroupedOptimizer, trainable_variables

STEPS = 20

pytestmark = pytest.mark.skipif(stack.NAME != "addons", reason="compares with tensorflow-addons: make test-addons")


def train(updates, settings: Optimizer, momentum: float, usable=lambda step: None) -> dict[str, np.ndarray]:
    """Weights of a small VGG16 classifier after 20 steps with a falling rate.

    The loss is a smooth function of the weights alone: through a network, a ReLU that rounding switches would part two
    runs by more than the steps differ.
    """
    make_deterministic(11)
    model = build_classifier("vgg16", 3, width=0.0625)
    variables = trainable_variables(model)
    optimizer = GroupedOptimizer(variables, head_layers(model), settings, STEPS + 5, momentum, updates)

    @tf.function
    def step(phase, good):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(tf.sin(variable + phase)) for variable in optimizer.variables])
        optimizer.apply(tape.gradient(loss, optimizer.variables), good)

    for index in range(STEPS):
        good = usable(index)
        step(tf.constant(0.3 * index), None if good is None else tf.constant(good))
    return {name: variable.numpy() for name, variable in variables.items()}


@pytest.mark.parametrize("decay", ["coupled", "decoupled"])
@pytest.mark.parametrize(("rule", "momentum"), [("sgd", 5e-4), ("sgd", 0.9), ("adam", 0.9)])
def test_the_same_weights_after_20_steps(rule, momentum, decay):
    settings = Optimizer(name=rule, learning_rate={"sgd": 0.002, "adam": 1e-4}[rule], weight_decay=0.01, decay=decay)
    expected = train(GroupedUpdates, settings, momentum)
    found = train(stack.Updates, settings, momentum)
    assert stack.Updates is not GroupedUpdates
    start = train(GroupedUpdates, settings.model_copy(update={"learning_rate": 1e-30}), momentum)
    assert len({variable.shape for variable in expected.values()}) > 5
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
        assert np.abs(value - start[name]).max() > 1e-4, name


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_steps_that_are_left_out(rule):
    """Overflowing steps of float16 training: the schedule goes on, and momentum knows which rate was applied last."""
    settings = Optimizer(name=rule, learning_rate={"sgd": 0.002, "adam": 1e-4}[rule])
    expected = train(GroupedUpdates, settings, 0.9, lambda step: step % 3 != 0)
    found = train(stack.Updates, settings, 0.9, lambda step: step % 3 != 0)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6, err_msg=name)
