"""An average of a network's weights over the steps of a training (Polyak & Juditsky 1992; exponential: Tarvainen & Valpola 2017).

The last steps of a training with noisy labels scatter around what it has learnt; their mean has less of the noise.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfwsss import stack
from tfwsss.training.optimizer import trainable_variables
from tfwsss.weights import named_variables

STATISTICS = ("moving_mean", "moving_variance")


class WeightAverage:
    """Exponential moving average of everything a training changes: what is trainable, and the statistics that go with it.

    After step s (from 1) ``average += (1 - d) * (weight - average)`` with ``d = min(decay, (1 + s) / (10 + s))``: at first the
    average follows closely, so that it soon forgets the initial weights. Made under the strategy that trains the model.

    Args:
        model: the network.
        decay: the limit of d, 0..1; the average is over about 1 / (1 - decay) steps.
    """

    def __init__(self, model: keras.Model, decay: float):
        self.decay = decay
        trainable = trainable_variables(model)
        layers = {name.rsplit("/", 1)[0] for name in trainable}
        moving = {name: v for name, v in named_variables(model).items() if name.rsplit("/", 1)[0] in layers and name.endswith(STATISTICS)}
        self._weights = {name: stack.tf_variable(variable) for name, variable in trainable.items()}
        self._statistics = {name: stack.tf_variable(variable) for name, variable in moving.items()}
        self._averages = {
            name: tf.Variable(tf.convert_to_tensor(variable), trainable=False) for name, variable in {**self._weights, **self._statistics}.items()
        }

    def state(self) -> dict[str, tf.Variable]:
        """The averages, by name; with the model's variables all that is needed to go on."""
        return {f"average/{name}": average for name, average in self._averages.items()}

    def update(self, strategy, step) -> None:
        """After a step, in cross-replica context; `step`: its number, from 1."""
        done = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self.decay, (1.0 + done) / (10.0 + done))
        # Read here, the statistics are the mean over the replicas; each weight is the same on all of them.
        values = {**self._weights, **{name: tf.convert_to_tensor(variable) for name, variable in self._statistics.items()}}
        for name, average in self._averages.items():
            strategy.extended.update(average, _move, args=(values[name], share))

    def store(self) -> None:
        """Give the model the averaged weights."""
        for variable, average in zip((*self._weights.values(), *self._statistics.values()), self._averages.values(), strict=True):
            variable.assign(tf.convert_to_tensor(average))


def _move(average, value, share) -> None:
    average.assign_add(share * (value - average))
