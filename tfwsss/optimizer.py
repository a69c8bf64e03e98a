"""SGD and Adam with the learning-rate groups, polynomial decay and coupled weight decay of PSA training.

Keras optimisers have one learning rate for all variables and, for SGD with momentum, fold it into the velocity;
the reference (a PyTorch SGD) multiplies at the update, which differs as soon as the rate changes. Hence our own rule.

Groups of the PSA reference code: backbone kernels (x1, with decay), backbone biases (x2, without), kernels of layers
trained from scratch (x10, with decay), their biases (x20, without). The scale of a group normalisation counts as a
kernel and its offset as a bias; a batch normalisation that is trained (the reference has none) does not decay. Frozen
variables are in no group: they get neither gradient nor decay.
"""

from dataclasses import dataclass

import tensorflow as tf

from tfwsss.config import Optimizer
from tfwsss.strict_zip import strict_zip
from tfwsss.weights import named_variables

ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8

# The reference passes its weight decay where torch.optim.SGD takes the momentum.
MOMENTUM = {"faithful": 5e-4, "corrected": 0.9}

GROUP_NORM_PREFIX = "gn"  # layer names of AffinityNet's group normalisations: gn8_3, gn8_4, gn8_5


def trainable_variables(model) -> dict:
    """{"layer/variable": variable} of everything in the model that is not frozen.

    Keras 2 leaves a variable's own `trainable` True when its layer is frozen; the model's list is right on both.
    """
    trainable = {id(variable) for variable in model.trainable_variables}
    return {name: variable for name, variable in named_variables(model).items() if id(variable) in trainable}


@dataclass(frozen=True)
class ParameterGroup:
    """Multiplier of the learning rate and L2 factor of one variable."""

    multiplier: float
    weight_decay: float


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
    """Updates the trainable variables of one model.

    Args:
        variables: {"layer/variable": variable} to train.
        head_layers: names of layers trained from scratch.
        settings: rule, rates and decay.
        total_steps: the learning rate of step s is ``learning_rate * (1 - s / total_steps) ** poly_power``; steps beyond
            the last one keep its rate, as in the reference.
        momentum: of SGD; the velocity is ``m * v + g``, the update ``rate * v`` (PyTorch's form).
    """

    def __init__(self, variables, head_layers, settings: Optimizer, total_steps: int, momentum: float):
        self.settings = settings
        self.total_steps = total_steps
        self.momentum = momentum
        self.names = list(variables)
        self.variables = [tf_variable(variables[name]) for name in self.names]
        self.groups = [parameter_group(name, name.rsplit("/", 1)[0] in head_layers, settings) for name in self.names]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        kinds = ("velocity",) if settings.name == "sgd" else ("first_moment", "second_moment")
        self.slots = {
            kind: [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in self.variables] for kind in kinds
        }

    def state(self) -> dict[str, tf.Variable]:
        """Everything besides the model that training needs to go on, by name."""
        named = {"step": self.step}
        for kind, slots in self.slots.items():
            named.update({f"{kind}/{name}": slot for name, slot in strict_zip(self.names, slots)})
        return named

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
        tf.distribute.get_replica_context().merge_call(self._update_all, args=(gradients, usable))

    def _update_all(self, strategy, gradients, usable):
        rate, step = self.learning_rate(), tf.cast(self.step, tf.float32)
        for index, (variable, group) in enumerate(strict_zip(self.variables, self.groups)):
            slots = tuple(kind[index] for kind in self.slots.values())
            arguments = (gradients[index], usable, rate * group.multiplier, step, group.weight_decay, *slots)
            strategy.extended.update(variable, self._update, args=arguments)
        self.step.assign_add(1)

    def _update(self, variable, gradient, usable, rate, step, weight_decay, *slots):
        gradient = gradient + weight_decay * variable
        if self.settings.name == "sgd":
            (velocity,) = slots
            velocity_now = self.momentum * velocity + gradient
            changes = [(velocity, velocity_now), (variable, variable - rate * velocity_now)]
        else:
            first, second = slots
            first_now = ADAM_BETA_1 * first + (1 - ADAM_BETA_1) * gradient
            second_now = ADAM_BETA_2 * second + (1 - ADAM_BETA_2) * gradient * gradient
            correction = tf.sqrt(1 - ADAM_BETA_2 ** (step + 1)) / (1 - ADAM_BETA_1 ** (step + 1))
            moved = variable - rate * correction * first_now / (tf.sqrt(second_now) + ADAM_EPSILON)
            changes = [(first, first_now), (second, second_now), (variable, moved)]
        for target, value in changes:
            target.assign(value if usable is None else tf.where(usable, value, target))


def tf_variable(variable) -> tf.Variable:
    """The tf.Variable inside a Keras 3 variable; a Keras 2 variable is one already."""
    return variable if isinstance(variable, tf.Variable) else variable.value
