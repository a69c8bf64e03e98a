"""What both ways of doing an optimiser's step have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import tensorflow as tf

from tfwsss.stack.rule import ParameterGroup, Rule


class OptimizerUpdates(ABC):
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

    @abstractmethod
    def state(self) -> dict[str, tf.Variable]:
        """Everything a step depends on besides the variables and the step's number, by name."""

    def apply(self, strategy, gradients, usable) -> None:
        """One step, in cross-replica context.

        Args:
            strategy: the current one.
            gradients: of the whole batch, one for each variable.
            usable: bool scalar; False changes nothing. None: True.
        """
        if usable is None:
            self._apply(strategy, gradients)
        else:
            usable = strategy.experimental_local_results(usable)[0]  # equal on all replicas
            tf.cond(usable, lambda: self._apply(strategy, gradients), tf.no_op)

    @abstractmethod
    def _apply(self, strategy, gradients) -> tf.Operation: ...
