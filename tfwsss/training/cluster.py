"""The processes that train together, as TF_CONFIG names them (the format of TensorFlow's multi-worker strategies).

    TF_CONFIG='{"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}}'

Worker 0 is the chief; a job named "chief" of one process comes before the workers. Needs no TensorFlow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tfwsss.errors import StackError

VARIABLE = "TF_CONFIG"


@dataclass(frozen=True)
class Cluster:
    """This process among those that train together.

    Attributes:
        workers: number of processes.
        index: of this one; the chief is 0.
    """

    workers: int = 1
    index: int = 0

    @property
    def chief(self) -> bool:
        """Whether this process writes files and MLflow runs."""
        return self.index == 0


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """The cluster TF_CONFIG describes; without it, a process alone.

    Raises:
        StackError: TF_CONFIG is not what TensorFlow expects, or has parameter servers.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return Cluster()
    try:
        value = json.loads(text)
        jobs = {name: list(addresses) for name, addresses in value.get("cluster", {}).items()}
        task = value.get("task", {"type": "worker", "index": 0})
        kind, index = task["type"], int(task["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackError(f"{VARIABLE}: not a description of a cluster ({error!r}), found {text[:200]}") from None
    others = set(jobs) - {"chief", "worker"}
    if others:
        raise StackError(f"{VARIABLE}: jobs may be chief and worker, found {sorted(others)[0]!r}")
    order = [("chief", i) for i in range(len(jobs.get("chief", [])))] + [("worker", i) for i in range(len(jobs.get("worker", [])))]
    if len(jobs.get("chief", [])) > 1:
        raise StackError(f"{VARIABLE}: expected one chief, found {len(jobs['chief'])}")
    if not order:
        return Cluster()
    if (kind, index) not in order:
        raise StackError(f"{VARIABLE}: the task is {kind} {index}, which the cluster does not have")
    return Cluster(len(order), order.index((kind, index)))
