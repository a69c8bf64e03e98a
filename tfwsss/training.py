"""One training loop for every network: deterministic, checkpointed each epoch, for one device or several.

The loop is our own because `keras.Model.fit` offers neither learning-rate groups nor a bit-exact restart, and because
Keras 3 `fit` cannot run under every tf.distribute strategy. A run that was killed and started again ends with the same
weights, bit for bit, as one that was not: batches depend on (seed, epoch) only, and the checkpoint holds all state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tfwsss.atomic import atomic_path
from tfwsss.config import Training
from tfwsss.errors import StageError
from tfwsss.optimizer import GroupedOptimizer, trainable_variables
from tfwsss.stack import tf_variable

CHECKPOINT = "checkpoint.safetensors"
LOSS_SCALE_START, LOSS_SCALE_GROWTH_STEPS = 2.0**15, 2000


@dataclass(frozen=True)
class Task:
    """What to train.

    Attributes:
        model: takes ``batch["image"]``.
        head_layers: names of layers trained from scratch.
        batches: epoch number -> finite tf.data.Dataset of dicts with `image` and the targets.
        loss: (outputs, batch, total) -> dict of scalars with `loss`; the other entries are only reported. Where the
            batch is spread over several devices it gets one device's part and returns that device's share of each
            entry: the shares add up to the entry of the whole batch. `total` sums a count over all devices.
        steps_per_epoch: batches of one epoch.
    """

    model: keras.Model
    head_layers: frozenset[str]
    batches: Callable[[int], tf.data.Dataset]
    loss: Callable[[tf.Tensor, dict, Callable], dict]
    steps_per_epoch: int


def make_deterministic(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and ask TensorFlow for repeatable kernels. Call before models are built."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    if hasattr(keras.backend, "experimental"):
        # Keras 2 would keep the state of dropout inside the operations, where no checkpoint can reach it.
        keras.backend.experimental.enable_tf_random_generator()


def make_strategy(name: str) -> tf.distribute.Strategy:
    """`single`: the default device; `mirrored`: all local GPUs."""
    return _mirrored() if name == "mirrored" else tf.distribute.get_strategy()


@cache
def _mirrored() -> tf.distribute.Strategy:
    # One for the whole process: a second one numbers its reductions from the start again, and TensorFlow takes them for
    # those of the first.
    return tf.distribute.MirroredStrategy()


class _LossScale:
    """Dynamic loss scale for float16: a step whose gradients overflow is left out and halves the scale, many good ones double it.

    With other precisions the scale is 1 and nothing is checked.
    """

    def __init__(self, precision: str):
        self.active = precision == "mixed_float16"
        self.scale = tf.Variable(LOSS_SCALE_START if self.active else 1.0, trainable=False)
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def state(self) -> dict[str, tf.Variable]:
        return {"loss_scale": self.scale, "good_steps": self.good_steps}

    def unscale(self, gradients):
        """(gradients of the unscaled loss, whether they are finite); None for finite when that is not checked."""
        if not self.active:
            return gradients, None
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        return [gradient / self.scale for gradient in gradients], finite

    def update(self, strategy, finite) -> None:
        """After each step, in cross-replica context."""
        if not self.active:
            return
        finite = strategy.experimental_local_results(finite)[0]
        good = tf.where(finite, self.good_steps + 1, 0)
        grow = good >= LOSS_SCALE_GROWTH_STEPS
        self.scale.assign(tf.where(finite, tf.where(grow, self.scale * 2, self.scale), tf.maximum(self.scale / 2, 1.0)))
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good), good))


def _keras_2_generators(model) -> list[tf.Variable]:
    """States of the dropout generators, which Keras 2 leaves out of `model.variables` and Keras 3 does not."""
    generators = (getattr(getattr(layer, "_random_generator", None), "_generator", None) for layer in model.layers)
    return [generator.state for generator in generators if generator is not None]


class _Checkpoint:
    """All state of a training as one safetensors file, replaced atomically after each epoch."""

    def __init__(self, path: Path, model, optimizer: GroupedOptimizer, loss_scale: _LossScale):
        self.path = path
        self.variables = {f"optimizer/{name}": variable for name, variable in optimizer.state().items()}
        self.variables.update(loss_scale.state())
        # By position: the states of the dropout generators, which belong to it, have no unique names.
        for index, variable in enumerate([*model.variables, *_keras_2_generators(model)]):
            self.variables[f"model/{index}"] = tf_variable(variable)

    def save(self, history: list[dict]) -> None:
        arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in self.variables.items()}
        with atomic_path(self.path) as temporary:
            save_file(arrays, temporary, metadata={"history": json.dumps(history)})

    def restore(self) -> list[dict]:
        """Load the state and return the history of the finished epochs; [] when there is no checkpoint."""
        if not self.path.is_file():
            return []
        try:
            with safe_open(self.path, framework="numpy") as file:
                if set(file.keys()) != set(self.variables):
                    raise StageError(f"{self.path}: the checkpoint is of another model; remove the file to start again")
                for name, variable in self.variables.items():
                    value, shape = file.get_tensor(name), tuple(variable.shape)
                    if value.shape != (shape or (1,)):  # safetensors keeps a scalar as one number
                        raise StageError(
                            f"{self.path}: the checkpoint is of another model: {name} has shape {list(value.shape)}, "
                            f"expected {list(shape)}; remove the file to start again"
                        )
                    variable.assign(value.reshape(shape))
                return json.loads(file.metadata()["history"])
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:  # damaged, or without a history
            raise StageError(f"{self.path}: not a readable checkpoint ({error}); remove the file to start again") from None


def fit(
    task: Task,
    settings: Training,
    *,
    momentum: float,
    folder,
    strategy: tf.distribute.Strategy | None = None,
    on_step: Callable[[int], None] = lambda images: None,
    on_epoch: Callable[[dict], None] = lambda entry: None,
) -> list[dict]:
    """Train `task.model` in place.

    Args:
        task: model, data and loss. The model must have been built under `strategy.scope()`.
        settings: epochs, optimiser, precision, XLA.
        momentum: of SGD.
        folder: where the checkpoint is kept. If it holds one, training goes on behind its last epoch.
        strategy: a tf.distribute strategy; None: the current one.
        on_step: called with the number of images after each step.
        on_epoch: called with the new history entry after each epoch, when the checkpoint is on disk.

    Returns:
        One dict per epoch: `epoch` (from 1), `learning_rate` at its end, and the mean of every entry of the loss dict.

    Raises:
        StageError: the loss is not finite, the checkpoint is damaged or of another model, nothing is trainable, or XLA
            is wanted on several devices.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if settings.xla and replicas > 1:
        # The loss counts over all devices, and a compiled function cannot wait for another device.
        raise StageError(f"xla: a step compiled by XLA runs on one device, found {replicas}; set xla to false")
    variables = trainable_variables(task.model)
    if not variables:
        raise StageError("nothing to train: every layer of the model is frozen")
    with strategy.scope():
        total_steps = task.steps_per_epoch * settings.epochs
        optimizer = GroupedOptimizer(variables, task.head_layers, settings.optimizer, total_steps, momentum)
        loss_scale = _LossScale(settings.precision)

    def total(value):
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, value) if replicas > 1 else value

    def gradients_of(batch):
        with tf.GradientTape() as tape:
            outputs = task.model(batch["image"], training=True)
            losses = task.loss(tf.cast(outputs, tf.float32), batch, total)
            scaled = losses["loss"] * loss_scale.scale
        return tape.gradient(scaled, optimizer.variables, unconnected_gradients="zero"), losses

    if settings.xla:
        gradients_of = tf.function(gradients_of, jit_compile=True)

    def replica_step(batch):
        gradients, losses = gradients_of(batch)
        gradients, finite = loss_scale.unscale(total(gradients))
        optimizer.apply(gradients, finite)
        tf.distribute.get_replica_context().merge_call(loss_scale.update, args=(finite,))
        return losses

    @tf.function
    def step(batch):
        losses = strategy.run(replica_step, args=(batch,))
        return {name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for name, value in losses.items()}

    checkpoint = _Checkpoint(Path(folder) / CHECKPOINT, task.model, optimizer, loss_scale)
    history = checkpoint.restore()
    for epoch in range(len(history), settings.epochs):
        sums: dict[str, float] = {}
        steps = 0
        for batch in strategy.experimental_distribute_dataset(task.batches(epoch)):
            for name, value in step(batch).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            steps += 1
            if not math.isfinite(sums["loss"]):
                rate = settings.optimizer.learning_rate
                raise StageError(f"the loss is {sums['loss']} at epoch {epoch + 1}, step {steps}: lower optimizer.learning_rate (now {rate})")
            on_step(settings.batch_size)
        entry = {"epoch": epoch + 1, "learning_rate": float(optimizer.learning_rate())}
        entry.update({name: value / max(steps, 1) for name, value in sums.items()})
        history.append(entry)
        checkpoint.save(history)
        on_epoch(entry)
    return history
