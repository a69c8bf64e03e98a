"""SGD and Adam with the learning-rate groups, polynomial decay and weight decay of PSA training.

Groups of the PSA reference code: backbone kernels (x1, with decay), backbone biases (x2, without), kernels of layers
trained from scratch (x10, with decay), their biases (x20, without). The scale of a group normalisation counts as a
kernel and its offset as a bias; a batch normalisation that is trained (the reference has none) does not decay. Frozen
variables are in no group: they get neither gradient nor decay.
"""

import tensorflow as tf

from tfwsss import stack
from tfwsss.config import Optimizer
from tfwsss.stack.rule import ParameterGroup, Rule
from tfwsss.weights import named_variables

# The reference passes its weight decay where torch.optim.SGD takes the momentum.
MOMENTUM = {"faithful": 5e-4, "corrected": 0.9}

GROUP_NORM_PREFIX = "gn"  # layer names of AffinityNet's group normalisations: gn8_3, gn8_4, gn8_5


def trainable_variables(model) -> dict:
    """{"layer/variable": variable} of everything in the model that is not frozen.

    Keras 2 leaves a variable's own `trainable` True when its layer is frozen; the model's list is right on both.
    """
    trainable = {id(variable) for variable in model.trainable_variables}
    return {name: variable for name, variable in named_variables(model).items() if id(variable) in trainable}


def parameter_group(name: str, head: bool, settings: Optimizer) -> ParameterGroup:
    """The group of a trainable variable.

    Args:
        name: "layer/variable".
        head: whether the layer is trained from scratch.
        settings: multipliers and weight decay.
    """
    layer, variable = name.rsplit("/", 1)
    multiplier = settings.head_multiplier if head else 1.0
    if variable in ("bias", "beta"):
        multiplier *= settings.bias_multiplier
    decays = variable.endswith("kernel") or (variable == "gamma" and layer.startswith(GROUP_NORM_PREFIX))
    return ParameterGroup(multiplier, settings.weight_decay if decays else 0.0)


class GroupedOptimizer:
    """Updates the trainable variables of one model; how, is the stack's (`tfwsss.stack.Updates`).

    Args:
        variables: {"layer/variable": variable} to train.
        head_layers: names of layers trained from scratch.
        settings: rule, rates and decay.
        total_steps: the learning rate of step s is ``learning_rate * (1 - s / total_steps) ** poly_power``; steps beyond
            the last one keep its rate, as in the reference.
        momentum: of SGD; the velocity is ``m * v + g``, the update ``rate * v`` (PyTorch's form).
        updates: the class that does the steps, for comparisons; None: the stack's.
    """

    def __init__(self, variables, head_layers, settings: Optimizer, total_steps: int, momentum: float, updates=None):
        self.settings = settings
        self.total_steps = total_steps
        self.names = list(variables)
        named = {name: stack.tf_variable(variable) for name, variable in variables.items()}
        self.variables = list(named.values())
        self.groups = [parameter_group(name, name.rsplit("/", 1)[0] in head_layers, settings) for name in self.names]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        rule = Rule(settings.name, momentum, settings.decay)
        self._updates = (updates or stack.Updates)(named, self.groups, rule, self.learning_rate, self.step)

    def state(self) -> dict[str, tf.Variable]:
        """Everything besides the model that training needs to go on, by name."""
        return {"step": self.step, **self._updates.state()}

    def learning_rate(self) -> tf.Tensor:
        """Rate of the group with multiplier 1 at the coming step."""
        done = tf.cast(tf.minimum(self.step, self.total_steps - 1), tf.float32) / float(self.total_steps)
        return self.settings.learning_rate * (1.0 - done) ** self.settings.poly_power

    def apply(self, gradients, usable=None) -> None:
        """One step, in the replica context of `strategy.run` or without any strategy.

        Args:
            gradients: of the whole batch, i.e. already summed over the replicas; one for each variable.
            usable: bool scalar; False leaves variables and moments as they are, only the schedule goes on. None: True.
        """
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm)
        tf.distribute.get_replica_context().merge_call(self._apply, args=(gradients, usable))

    def _apply(self, strategy, gradients, usable):
        self._updates.apply(strategy, gradients, usable)
        self.step.assign_add(1)
