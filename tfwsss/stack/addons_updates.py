"""Optimiser steps with `tfa.optimizers.MultiOptimizer`: one Keras 2 optimiser for each group of variables.

The rules of Keras 2 are brought to the numbers of `Rule`: Keras keeps ``u = momentum * u - rate * g`` where the method
keeps ``v = momentum * v + g`` and multiplies at the update. With ``u = -rate * v`` both are the same when the momentum
of a step is multiplied by rate / (rate of the step before), the momentum correction of Goyal et al. 2017, section 3.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_addons as tfa
from tensorflow.keras.optimizers import legacy  # MultiOptimizer takes no others

from tfwsss.errors import StackError
from tfwsss.stack.rule import ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON, ParameterGroup, Rule
from tfwsss.stack.updates import OptimizerUpdates


class MultiOptimizerUpdates(OptimizerUpdates):
    """A Keras 2 optimiser for each group.

    Raises:
        StackError: two variables have the same name, by which MultiOptimizer tells them apart.
    """

    def __init__(self, variables: dict[str, tf.Variable], groups: list[ParameterGroup], rule: Rule, rate: Callable, step: tf.Variable):
        super().__init__(variables, groups, rule, rate, step)
        names = [variable.name for variable in variables.values()]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise StackError(f"two variables are named {twice!r}; tensorflow-addons' MultiOptimizer needs different names")
        # The rate of the last step that changed anything; momentum is relative to it.
        self.applied_rate = tf.Variable(rate(), trainable=False)
        self._optimizer_of: dict[str, legacy.Optimizer] = {}
        specs = []
        members = defaultdict(list)
        for (name, variable), group in zip(variables.items(), groups, strict=True):
            members[group].append((name, variable))
        for group, named in members.items():
            optimizer = self._group_optimizer(group)
            optimizer._create_all_weights([variable for _, variable in named])  # now, so that a checkpoint can fill them
            specs.append({"optimizer": optimizer, "weights": [variable.name for _, variable in named]})
            self._optimizer_of.update({name: optimizer for name, _ in named})
        self._multi = tfa.optimizers.MultiOptimizer(optimizer_specs=specs)
        self._counters = [self._multi.iterations, *(spec["optimizer"].iterations for spec in specs)]

    def _group_optimizer(self, group: ParameterGroup) -> legacy.Optimizer:
        def rate():
            return self.rate() * group.multiplier

        def decay():
            return rate() * group.weight_decay

        decoupled = self.rule.decay == "decoupled" and group.weight_decay > 0
        if self.rule.name == "sgd":
            values: dict[str, Any] = {"learning_rate": rate, "momentum": lambda: self.rule.momentum * self.rate() / self.applied_rate}
            return tfa.optimizers.SGDW(weight_decay=decay, **values) if decoupled else legacy.SGD(**values)
        values = {"learning_rate": rate, "beta_1": ADAM_BETA_1, "beta_2": ADAM_BETA_2, "epsilon": ADAM_EPSILON}
        return tfa.optimizers.AdamW(weight_decay=decay, **values) if decoupled else legacy.Adam(**values)

    def state(self) -> dict[str, tf.Variable]:
        slots = {"velocity": "momentum"} if self.rule.name == "sgd" else {"first_moment": "m", "second_moment": "v"}
        named = {"applied_rate": self.applied_rate}
        for kind, slot in slots.items():
            named.update({f"{kind}/{name}": self._optimizer_of[name].get_slot(v, slot) for name, v in self.variables.items()})
        return named

    def apply(self, strategy, gradients, usable) -> None:
        for counter in self._counters:  # a step that was left out counts, as the schedule does; a checkpoint has one counter
            counter.assign(self.step)
        super().apply(strategy, gradients, usable)

    def _apply(self, strategy, gradients) -> tf.Operation:
        done = strategy.extended.call_for_each_replica(self._apply_in_replica, args=(gradients,))
        with tf.control_dependencies(strategy.experimental_local_results(done)):
            self.applied_rate.assign(self.rate())
        return tf.no_op()

    def _apply_in_replica(self, gradients):
        pairs = []
        for gradient, variable, group in zip(gradients, self.variables.values(), self.groups, strict=True):
            if self.rule.decay == "coupled":
                gradient = gradient + group.weight_decay * variable
            pairs.append((gradient, variable))
        self._multi.apply_gradients(pairs, experimental_aggregate_gradients=False)  # summed already
        return tf.constant(True)
