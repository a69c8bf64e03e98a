"""Optimiser steps with a learning rate and a weight decay for each group of variables, in TensorFlow alone.

Keras optimisers have one learning rate for all variables and, for SGD with momentum, fold it into the velocity; the
method's reference (a PyTorch SGD) multiplies at the update, which differs as soon as the rate changes.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfwsss.stack.rule import ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, ParameterGroup, Rule
from tfwsss.strict_zip import strict_zip


class GroupedUpdates:
    """Steps for some variables.

    Args:
        variables: {name: variable}; created under the strategy that trains them, as this object is.
        groups: of the variables, in their order.
        rule: what a step does.
        rate: the learning rate of multiplier 1 at the coming step, a scalar tensor.
        step: int64 variable with the number of steps done; the caller counts.
    """

    def __init__(self, variables: dict[str, tf.Variable], groups: list[ParameterGroup], rule: Rule, rate: Callable, step: tf.Variable):
        self.variables, self.groups = variables, groups
        self.rule, self.rate, self.step = rule, rate, step
        kinds = ("velocity",) if rule.name == "sgd" else ("first_moment", "second_moment")
        self.slots = {
            kind: [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in variables.values()] for kind in kinds
        }

    def state(self) -> dict[str, tf.Variable]:
        """Everything a step depends on besides the variables and the step's number, by name."""
        return {f"{kind}/{name}": slot for kind, slots in self.slots.items() for name, slot in strict_zip(self.variables, slots)}

    def apply(self, strategy, gradients, usable) -> None:
        """One step, in cross-replica context.

        Args:
            strategy: the current one.
            gradients: of the whole batch, one for each variable.
            usable: bool scalar; False changes nothing. None: True.
        """
        rate, step = self.rate(), tf.cast(self.step, tf.float32)
        for index, (variable, group) in enumerate(strict_zip(self.variables.values(), self.groups)):
            slots = tuple(kind[index] for kind in self.slots.values())
            arguments = (gradients[index], usable, rate * group.multiplier, step, group.weight_decay, *slots)
            strategy.extended.update(variable, self._update, args=arguments)

    def _update(self, variable, gradient, usable, rate, step, weight_decay, *slots):
        value = variable
        if self.rule.decay == "coupled":
            gradient = gradient + weight_decay * variable
        else:
            value = variable - rate * weight_decay * variable
        if self.rule.name == "sgd":
            (velocity,) = slots
            velocity_now = self.rule.momentum * velocity + gradient
            changes = [(velocity, velocity_now), (variable, value - rate * velocity_now)]
        else:
            first, second = slots
            first_now = ADAM_BETA_1 * first + (1 - ADAM_BETA_1) * gradient
            second_now = ADAM_BETA_2 * second + (1 - ADAM_BETA_2) * gradient * gradient
            correction = tf.sqrt(1 - ADAM_BETA_2 ** (step + 1)) / (1 - ADAM_BETA_1 ** (step + 1))
            moved = value - rate * correction * first_now / (tf.sqrt(second_now) + ADAM_EPSILON)
            changes = [(first, first_now), (second, second_now), (variable, moved)]
        for target, new in changes:
            target.assign(new if usable is None else tf.where(usable, new, target))
