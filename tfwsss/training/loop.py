"""One training loop for every network: deterministic, checkpointed each epoch, for one device, several, or several workers.

The loop is our own because `keras.Model.fit` offers neither learning-rate groups nor a bit-exact restart, and because
Keras 3 `fit` cannot run under every tf.distribute strategy. A run that was killed and started again ends with the same
weights, bit for bit, as one that was not: batches depend on (seed, epoch) only, and the checkpoint holds all state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors import SafetensorError, safe_open

from tfwsss import stack
from tfwsss.config import Training
from tfwsss.errors import StageError
from tfwsss.storage.atomic import atomic_path
from tfwsss.training.averaging import WeightAverage
from tfwsss.training.cluster import Cluster
from tfwsss.training.devices import split_batch, sum_over_workers
from tfwsss.training.optimizer import GroupedOptimizer, trainable_variables
from tfwsss.weights.array_file import save_arrays

CHECKPOINT = "checkpoint.safetensors"
ALONE = Cluster()
LOSS_SCALE_START, LOSS_SCALE_GROWTH_STEPS = 2.0**15, 2000


@dataclass(frozen=True)
class Task:
    """What to train.

    Attributes:
        model: takes ``batch["image"]``.
        head_layers: names of layers trained from scratch.
        batches: (epoch number, part) -> finite tf.data.Dataset of dicts with `image` and the targets; `part` is a slice
            of the positions in a batch: what this process trains on.
        loss: (outputs, batch, total) -> dict of scalars with `loss`; the other entries are only reported. Where the
            batch is spread over several devices it gets one device's part and returns that device's share of each
            entry: the shares add up to the entry of the whole batch. `total` sums a count over all devices.
        steps_per_epoch: batches of one epoch.
        metrics: name -> Keras metric over an epoch's training batches, reported with the losses.
        compared: (outputs, batch) -> what the metrics' `update_state` takes; each array has the batch dimension first.
    """

    model: keras.Model
    head_layers: frozenset[str]
    batches: Callable[[int, slice], tf.data.Dataset]
    loss: Callable[[tf.Tensor, dict, Callable], dict]
    steps_per_epoch: int
    metrics: Mapping[str, keras.metrics.Metric] = field(default_factory=dict)
    compared: Callable[[tf.Tensor, dict], tuple] = lambda outputs, batch: ()


def make_deterministic(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and ask TensorFlow for repeatable kernels. Call before models are built."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


@contextmanager
def as_written():
    """Within this context TensorFlow runs graphs as they were traced.

    Its graph optimiser turns the sum of several gradients into one that adds them as they arrive, so that two trainings
    part in the last digits, and then in more. Doing without costs 4 to 9 % of a step's time (docs/performance.md).
    """
    option = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})


class LossScale:
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


class _Checkpoint:
    """All state of a training as one safetensors file, replaced atomically after each epoch."""

    def __init__(self, path: Path, model, optimizer: GroupedOptimizer, loss_scale: LossScale, average: WeightAverage | None):
        self.path = path
        self.variables = {f"optimizer/{name}": variable for name, variable in optimizer.state().items()}
        self.variables.update(loss_scale.state())
        if average is not None:
            self.variables.update(average.state())
        # By position: the states of the dropout generators, which belong to it, have no unique names.
        for index, variable in enumerate(model.variables):
            self.variables[f"model/{index}"] = stack.tf_variable(variable)

    def save(self, history: list[dict], cluster: Cluster) -> None:
        """Called by all workers, as reading running statistics sums them over the workers; the chief writes."""
        arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in self.variables.items()}
        if not cluster.chief:
            return
        with atomic_path(self.path) as temporary:
            save_arrays(arrays, temporary, {"history": json.dumps(history), "stack": stack.NAME})

    def restore(self) -> list[dict]:
        """Load the state and return the history of the finished epochs; [] when there is no checkpoint."""
        if not self.path.is_file():
            return []
        try:
            with safe_open(self.path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("stack", stack.NAME) != stack.NAME:
                    raise StageError(
                        f"{self.path}: the training began on the stack {metadata['stack']!r}, this is {stack.NAME!r}, whose "
                        "optimiser keeps another state; go on there, or remove the file to start again"
                    )
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
                return json.loads(metadata["history"])
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:  # damaged, or without a history
            raise StageError(f"{self.path}: not a readable checkpoint ({error}); remove the file to start again") from None


def fit(
    task: Task,
    settings: Training,
    *,
    momentum: float,
    folder,
    strategy: tf.distribute.Strategy | None = None,
    cluster: Cluster = ALONE,
    ema: float | None = None,
    on_step: Callable[[int], None] = lambda images: None,
    on_epoch: Callable[[dict], None] = lambda entry: None,
    on_restore: Callable[[list[dict]], None] = lambda history: None,
) -> list[dict]:
    """Train `task.model` in place.

    Args:
        task: model, data and loss. The model must have been built under `strategy.scope()`.
        settings: epochs, optimiser, precision, XLA.
        momentum: of SGD.
        folder: where the checkpoint is kept. If it holds one, training goes on behind its last epoch. Several workers
            share it; the chief writes.
        strategy: a tf.distribute strategy; None: the current one.
        cluster: the workers the strategy spans.
        ema: decay of an average of the weights (`tfwsss.training.averaging`), which the model has in the end; None: none.
        on_step: called with the number of images of the whole batch after each step.
        on_epoch: called with the new history entry after each epoch, when the checkpoint is on disk.
        on_restore: called once with the entries of the epochs that an earlier process has finished.

    Returns:
        One dict per epoch: `epoch` (from 1), `learning_rate` at its end, the mean of every entry of the loss dict, and
        the metrics.

    Raises:
        StageError: the loss is not finite, the checkpoint is damaged or of another model, nothing is trainable, XLA is
            wanted on several devices, the batch is smaller than their number, or the workers do not start alike.
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
        loss_scale = LossScale(settings.precision)
        average = WeightAverage(task.model, ema) if ema is not None else None
    step = make_step(task, settings, strategy, optimizer, loss_scale, average)
    checkpoint = _Checkpoint(Path(folder) / CHECKPOINT, task.model, optimizer, loss_scale, average)
    history = checkpoint.restore()
    _start_alike(strategy, cluster, variables, history, checkpoint.path)
    on_restore(history)
    for epoch in range(len(history), settings.epochs):
        sums: dict[str, float] = {}
        steps = 0
        seen: list[tuple] = []  # what the metrics compare; they are told once, as many small updates cost more than a step
        for batch in _distributed_batches(task, settings, strategy, cluster, epoch):
            with as_written():
                losses, compared = step(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            seen.append(compared)
            steps += 1
            if not math.isfinite(sums["loss"]):
                rate = settings.optimizer.learning_rate
                raise StageError(f"the loss is {sums['loss']} at epoch {epoch + 1}, step {steps}: lower optimizer.learning_rate (now {rate})")
            on_step(settings.batch_size)
        entry = {"epoch": epoch + 1, "learning_rate": float(optimizer.learning_rate())}
        entry.update({name: value / max(steps, 1) for name, value in sums.items()})
        for name, metric in task.metrics.items():
            metric.update_state(*(tf.concat(values, 0) for values in zip(*seen, strict=True)))
            entry[name] = float(metric.result())
            metric.reset_state()
        history.append(entry)
        checkpoint.save(history, cluster)
        on_epoch(entry)
    if average is not None:
        average.store()
    return history


def make_step(
    task: Task, settings: Training, strategy, optimizer: GroupedOptimizer, loss_scale: LossScale, average: WeightAverage | None = None
) -> Callable:
    """A tf.function: the strategy's batch -> (losses of the whole batch, what the metrics compare, of the whole batch)."""
    replicas = strategy.num_replicas_in_sync
    several = replicas > 1
    parts = np.cumsum([0, *split_batch(settings.batch_size, replicas)[:-1]], dtype=np.int32)  # each replica's first sample

    def total(value):
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value) if several else value

    def whole(value):
        """The replicas' parts one after the other, on all of them; all_gather fails where a worker has one device."""
        if not several:
            return value
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        part = tf.gather(parts, replica)
        rows = tf.range(settings.batch_size)[:, None]
        rows = tf.cast(rows == part + tf.range(tf.shape(value)[0])[None, :], value.dtype)  # [batch, part], one-hot
        return total(tf.tensordot(rows, value, 1))

    def gradients_of(batch):
        with tf.GradientTape() as tape:
            outputs = tf.cast(task.model(batch["image"], training=True), tf.float32)
            losses = task.loss(outputs, batch, total)
            scaled = losses["loss"] * loss_scale.scale
        gradients = tape.gradient(scaled, optimizer.variables, unconnected_gradients="zero")
        return gradients, losses, task.compared(outputs, batch) if task.metrics else ()

    if settings.xla:
        gradients_of = tf.function(gradients_of, jit_compile=True, autograph=False)

    def replica_step(batch):
        gradients, losses, compared = gradients_of(batch)
        gradients, finite = loss_scale.unscale(total(gradients))
        optimizer.apply(gradients, finite)
        tf.distribute.get_replica_context().merge_call(loss_scale.update, args=(finite,))
        if average is not None:
            tf.distribute.get_replica_context().merge_call(average.update, args=(optimizer.step,))
        return losses, tuple(whole(value) for value in compared)

    @tf.function(autograph=False)  # nothing branches on a tensor; converting the loss and the optimiser takes seconds
    def step(batch):
        losses, compared = strategy.run(replica_step, args=(batch,))
        losses = {name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for name, value in losses.items()}
        return losses, tuple(strategy.experimental_local_results(value)[0] for value in compared)

    return step


def _distributed_batches(task: Task, settings: Training, strategy, cluster: Cluster, epoch: int):
    """Every batch of an epoch once, its samples in order over the workers and their devices."""
    sizes = split_batch(settings.batch_size, strategy.num_replicas_in_sync)
    local = len(sizes) // cluster.workers
    first = cluster.index * local
    start, mine = sum(sizes[:first]), sizes[first : first + local]

    def of_this_worker(_):
        dataset = task.batches(epoch, slice(start, start + sum(mine)))
        return dataset.rebatch(mine) if local > 1 else dataset

    return strategy.distribute_datasets_from_function(of_this_worker)


def _start_alike(strategy, cluster: Cluster, variables: dict, history: list[dict], path: Path) -> None:
    """Workers that began with different weights or epochs would train different networks, or wait for ever."""
    weights = sum(float(np.abs(variable.numpy()).sum()) for variable in variables.values())
    found = np.array([len(history), weights, 1.0])
    sums = sum_over_workers(strategy, cluster, np.concatenate([found, found**2]))
    mean, mean_of_squares = sums[:3] / cluster.workers, sums[3:] / cluster.workers
    if np.any(mean_of_squares - mean**2 > 1e-9 * np.maximum(mean**2, 1.0)):
        raise StageError(
            f"the {cluster.workers} workers do not start alike (here: {len(history)} finished epochs, weights {weights:.6g}; "
            f"mean: {mean[0]:g}, {mean[1]:.6g}): they need the same configuration and one shared folder {path.parent}"
        )
