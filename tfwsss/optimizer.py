"""SGD and Adam with the learning-rate groups, polynomial decay and coupled weight decay of PSA training.

Keras optimisers have one learning rate for all variables and, for SGD with momentum, fold it into the velocity;
the reference (a PyTorch SGD) multiplies at the update, which differs as soon as the rate changes. Hence our own rule.

Groups of the PSA reference code: backbone kernels (x1, with decay), backbone biases (x2, without), kernels of layers
trained from scratch (x10, with decay), their biases (x20, without). Frozen variables are in no group: they get
neither gradient nor decay.
"""

from dataclasses import dataclass

import tensorflow as tf

from tfwsss.config import Optimizer

ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8

# The reference passes its weight decay where torch.optim.SGD takes the momentum.
MOMENTUM = {"faithful": 5e-4, "corrected": 0.9}


@dataclass(frozen=True)
class ParameterGroup:
    """Multiplier of the learning rate and L2 factor of one variable."""

    multiplier: float
    weight_decay: float


def parameter_group(name: str, head: bool, settings: Optimizer) -> ParameterGroup:
    """The group of a trainable variable.

    Args:
        name: "layer/variable"; kernels decay, everything else (bias, gamma, beta) does not. Biases have their own rate.
        head: whether the layer is trained from scratch.
        settings: multipliers and weight decay.
    """
    variable = name.rsplit("/", 1)[-1]
    multiplier = settings.head_multiplier if head else 1.0
    if variable in ("bias", "beta"):
        multiplier *= settings.bias_multiplier
    return ParameterGroup(multiplier, settings.weight_decay if variable.endswith("kernel") else 0.0)


class GroupedOptimizer:
    """Updates the trainable variables of one model.

    Args:
        variables: {"layer/variable": variable} to train.
        head_layers: names of layers trained from scratch.
        settings: rule, rates and decay.
        total_steps: the learning rate of step s is ``learning_rate * (1 - s / total_steps) ** poly_power``.
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
            named.update({f"{kind}/{name}": slot for name, slot in zip(self.names, slots, strict=True)})
        return named

    def learning_rate(self) -> tf.Tensor:
        """Rate of the group with multiplier 1 at the coming step."""
        done = tf.cast(self.step, tf.float32) / float(self.total_steps)
        return self.settings.learning_rate * tf.maximum(1.0 - done, 0.0) ** self.settings.poly_power

    def apply(self, gradients) -> None:
        """One step. Inside `strategy.run` the gradients are summed over the replicas first."""
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self.settings.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.settings.clip_norm)
        replica.merge_call(self._update_all, args=(gradients,))

    def _update_all(self, strategy, gradients):
        rate, step = self.learning_rate(), tf.cast(self.step, tf.float32)
        for index, (variable, group) in enumerate(zip(self.variables, self.groups, strict=True)):
            slots = tuple(kind[index] for kind in self.slots.values())
            arguments = (gradients[index], rate * group.multiplier, step, group.weight_decay, *slots)
            strategy.extended.update(variable, self._update, args=arguments)
        self.step.assign_add(1)

    def _update(self, variable, gradient, rate, step, weight_decay, *slots):
        gradient = gradient + weight_decay * variable
        if self.settings.name == "sgd":
            (velocity,) = slots
            velocity.assign(self.momentum * velocity + gradient)
            variable.assign_sub(rate * velocity)
            return
        first, second = slots
        first.assign(ADAM_BETA_1 * first + (1 - ADAM_BETA_1) * gradient)
        second.assign(ADAM_BETA_2 * second + (1 - ADAM_BETA_2) * gradient * gradient)
        correction = tf.sqrt(1 - ADAM_BETA_2 ** (step + 1)) / (1 - ADAM_BETA_1 ** (step + 1))
        variable.assign_sub(rate * correction * first / (tf.sqrt(second) + ADAM_EPSILON))



def tf_variable(variable) -> tf.Variable:
    """The tf.Variable inside a Keras 3 variable; a Keras 2 variable is one already."""
    return variable if isinstance(variable, tf.Variable) else variable.value
