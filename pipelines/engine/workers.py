"""Several processes that train together: the chief runs the pipeline, the others join it where all workers are needed.

The chief says which stage begins through a sum over all workers, to which the others add nothing; waiting for that sum,
they wait for the chief. They write nothing, open no MLflow run and need the chief's work directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tfwsss.config import Config
from tfwsss.errors import StageError
from tfwsss.training.cluster import Cluster

from .progress import console
from .stage import Stage
from .startup import load_tensorflow

DONE, FAILED = -1, -2


class Orders:
    """What the chief says and the others hear; made by all workers at the same time, before anything computes.

    Args:
        cluster: the workers.
        config: of the run.
    """

    def __init__(self, cluster: Cluster, config: Config):
        load_tensorflow()
        from tfwsss.training.devices import make_strategy

        console.print(f"worker {cluster.index} of {cluster.workers}: waiting for the others")
        self.cluster = cluster
        self._strategy = make_strategy(config.runtime.strategy, cluster)
        self._stages: list[Stage] = []
        self._together = False

    def _exchange(self, order: int = 0) -> int:
        import tensorflow as tf

        from tfwsss.training.devices import sum_over_workers

        try:
            return int(round(float(sum_over_workers(self._strategy, self.cluster, [order])[0])))
        except tf.errors.OpError as error:
            raise StageError(f"worker {self.cluster.index}: another worker has ended: {error.message.splitlines()[0]}") from None

    @contextlib.contextmanager
    def given(self, stages: list[Stage]):
        """The chief's run of `stages`; at its end the others are released, or told that it failed."""
        self._stages = stages
        try:
            yield
        except BaseException:
            if not self._together:  # else they fail of the same cause, or notice that the chief has gone
                with contextlib.suppress(StageError):
                    self._exchange(FAILED)
            raise
        self._exchange(DONE)

    @contextlib.contextmanager
    def stage(self, stage: Stage):
        """The chief's run of one stage, in which the others join if it is one for all workers."""
        if stage.all_workers:
            self._exchange(self._stages.index(stage) + 1)
            self._together = True
        yield
        self._together = False

    def follow(self, stages: list[Stage], run: Callable[[Stage], object]) -> None:
        """Worker: do the stages the chief names until it is done.

        Raises:
            StageError: the chief failed or has gone.
        """
        while True:
            order = self._exchange()
            if order == DONE:
                return
            if order == FAILED:
                raise StageError(f"worker {self.cluster.index}: the chief has failed; its message says why")
            stage = stages[order - 1]
            console.print(f"worker {self.cluster.index}: {stage.name}")
            run(stage)
