"""Where training runs: one device, all local GPUs, or the workers of a cluster."""

from __future__ import annotations

from functools import cache

import numpy as np
import tensorflow as tf

from tfwsss.errors import StackError, StageError
from tfwsss.training.cluster import Cluster


def make_strategy(name: str, cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """The strategy of a training.

    Args:
        name: `single`: the default device; `mirrored`: all local GPUs. A cluster takes all GPUs of all its workers.
        cluster: the processes that train together. Several workers' strategy must be made before TensorFlow has
            computed anything, and returns when all workers have come.
    """
    if cluster is not None and cluster.workers > 1:
        return _multi_worker()
    return _mirrored() if name == "mirrored" else tf.distribute.get_strategy()


# One of each for the whole process: a second one numbers its reductions from the start again, and TensorFlow takes them
# for those of the first.


@cache
def _mirrored() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy()


@cache
def _multi_worker() -> tf.distribute.Strategy:
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:  # too late, or nobody answers
        raise StackError(f"the workers of TF_CONFIG cannot start together: {error}") from None
    # All workers have equally many batches: they need not ask each other before each one whether there is another.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


def split_batch(batch_size: int, replicas: int) -> list[int]:
    """Samples of each replica, as even as can be.

    Raises:
        StageError: fewer samples than replicas.
    """
    if batch_size < replicas:
        raise StageError(f"batch_size {batch_size} is smaller than the number of devices, {replicas}")
    return [len(part) for part in np.array_split(np.arange(batch_size), replicas)]


def sum_over_workers(strategy: tf.distribute.Strategy, cluster: Cluster, values) -> np.ndarray:
    """Sum of vectors of float64, one from each worker. Waits until all of them have called it."""
    values = np.asarray(values, np.float64)
    if cluster.workers == 1:
        return values

    share = _total(strategy)(tf.constant(values)).numpy()
    return share * cluster.workers / strategy.num_replicas_in_sync  # each device of a worker gave its values


@cache
def _total(strategy: tf.distribute.Strategy):
    @tf.function(autograph=False)
    def total(values):
        share = strategy.run(tf.identity, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None)

    return total
