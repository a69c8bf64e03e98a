"""Optimiser steps with a learning rate and a weight decay for each group of variables, in TensorFlow alone.

Keras optimisers have one learning rate for all variables and, for SGD with momentum, fold it into the velocity; the
method's reference (a PyTorch SGD) multiplies at the update, which differs as soon as the rate changes.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfwsss.stack.rule import ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, ParameterGroup, Rule
from tfwsss.stack.updates import OptimizerUpdates


class GroupedUpdates(OptimizerUpdates):
    """One step rule, written out; nothing of Keras."""

    def __init__(self, variables: dict[str, tf.Variable], groups: list[ParameterGroup], rule: Rule, rate: Callable, step: tf.Variable):
        super().__init__(variables, groups, rule, rate, step)
        kinds = ("velocity",) if rule.name == "sgd" else ("first_moment", "second_moment")
        self.slots = {
            kind: [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in variables.values()] for kind in kinds
        }

    def state(self) -> dict[str, tf.Variable]:
        return {f"{kind}/{name}": slot for kind, slots in self.slots.items() for name, slot in zip(self.variables, slots, strict=True)}

    def _apply(self, strategy, gradients) -> tf.Operation:
        rate, step = self.rate(), tf.cast(self.step, tf.float32)
        powers = (ADAM_BETA_1 ** (step + 1), ADAM_BETA_2 ** (step + 1)) if self.rule.name == "adam" else ()
        for index, (variable, group) in enumerate(zip(self.variables.values(), self.groups, strict=True)):
            slots = tuple(kind[index] for kind in self.slots.values())
            arguments = (gradients[index], rate * group.multiplier, powers, group.weight_decay, *slots)
            strategy.extended.update(variable, self._update, args=arguments)
        return tf.no_op()

    def _update(self, variable, gradient, rate, powers, weight_decay, *slots):
        """TensorFlow's fused kernels: one operation instead of a dozen, which shows with many small variables."""
        if weight_decay and self.rule.decay == "coupled":
            gradient = gradient + weight_decay * variable
        elif weight_decay:
            variable.assign_sub(rate * weight_decay * variable)
        handles = {"var": variable.handle, "lr": rate, "grad": gradient}
        if self.rule.name == "sgd":  # accum = momentum * accum + grad; var -= lr * accum
            tf.raw_ops.ResourceApplyMomentum(**handles, accum=slots[0].handle, momentum=self.rule.momentum)
        else:
            betas = {"beta1": ADAM_BETA_1, "beta2": ADAM_BETA_2, "beta1_power": powers[0], "beta2_power": powers[1]}
            tf.raw_ops.ResourceApplyAdam(**handles, m=slots[0].handle, v=slots[1].handle, epsilon=ADAM_EPSILON, **betas)
