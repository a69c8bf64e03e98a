"""MLflow: one run for the pipeline, one child run for each stage.

The store is what MLFLOW_TRACKING_URI says; without it, the SQLite file ./mlflow.db with every MLflow release. Everything is
logged explicitly; nothing depends on autologging.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from tfwsss.errors import StageError

from .inputs import DEFAULT_STORE

FINGERPRINT_TAG = "tfwsss.fingerprint"
STAGE_TAG = "tfwsss.stage"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
MAX_VALUE = 500  # characters of a parameter value every MLflow store takes


def flatten(settings: dict, prefix: str = "") -> dict[str, object]:
    """Nested settings as dotted names."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


class Run:
    """One MLflow run, written through a client of its own so that nothing depends on MLflow's global active run."""

    def __init__(self, client: MlflowClient, run_id: str):
        self._client = client
        self.id = run_id

    def params(self, values: dict) -> None:
        for name, value in flatten(values).items():
            self._client.log_param(self.id, name, str(value)[:MAX_VALUE])

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        for name, value in values.items():
            self._client.log_metric(self.id, name, float(value), step=step)

    def tag(self, name: str, value: str) -> None:
        self._client.set_tag(self.id, name, value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder under its own name; in `folder` of the run's files."""
        if path.is_dir():
            self._client.log_artifacts(self.id, str(path), f"{folder}/{path.name}" if folder else path.name)
        else:
            self._client.log_artifact(self.id, str(path), folder or None)

    def finish(self, status: str) -> None:
        """`status`: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.id, status)


@contextlib.contextmanager
def _alone_in_new_store():
    """MLflow makes the tables of a new SQLite file step by step: a second process that starts meanwhile would fail."""
    scheme, found, path = tracking_uri().partition("sqlite:///")
    if scheme or not found or not Path(path).parent.is_dir():
        yield  # a server, a folder, another database, or a place that MLflow will complain about
        return
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Tracker:
    """Opens runs in one experiment.

    Args:
        experiment: its name; created when absent.
    """

    def __init__(self, experiment: str):
        if not mlflow.is_tracking_uri_set():  # MLflow's own default is the folder ./mlruns in older releases, and where that exists
            mlflow.set_tracking_uri(f"sqlite:///{Path(DEFAULT_STORE).absolute()}")
        with _alone_in_new_store():
            self._client = MlflowClient()
        # `mlflow run` has opened a run already and names it here; the pipeline's run is then that one.
        self._outer_run = os.environ.get("MLFLOW_RUN_ID")
        if self._outer_run is None:
            self._experiment = self._experiment_id(experiment)
            return
        try:
            self._experiment = self._client.get_run(self._outer_run).info.experiment_id
        except MlflowException:
            raise StageError(
                f"MLFLOW_RUN_ID names the run {self._outer_run}, which {tracking_uri()} does not hold; "
                "give MLFLOW_TRACKING_URI as an absolute address (a relative SQLite path depends on the folder)"
            ) from None

    def _experiment_id(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            found = self._client.get_experiment_by_name(name)  # by a run that started at the same moment?
            if found is None:
                raise
            return found.experiment_id

    @contextlib.contextmanager
    def pipeline_run(self, name: str):
        """The parent run, closed with the outcome of the block. One that `mlflow run` opened is left for it to close."""
        if self._outer_run:
            yield Run(self._client, self._outer_run)
            return
        with self._closing(self._create(name, {})) as run:
            yield run

    @contextlib.contextmanager
    def stage_run(self, stage: str, fingerprint: str, parent: Run, resume_id: str | None = None):
        """A child run. An unfinished stage goes on in the run it began in, if the store still has it."""
        run = self._reopen(resume_id) or self._create(stage, {PARENT_TAG: parent.id})
        run.tag(FINGERPRINT_TAG, fingerprint)
        run.tag(STAGE_TAG, stage)
        with self._closing(run):
            yield run

    def _create(self, name: str, tags: dict[str, str]) -> Run:
        created = self._client.create_run(self._experiment, tags={NAME_TAG: name, **tags})
        return Run(self._client, created.info.run_id)

    def _reopen(self, run_id: str | None) -> Run | None:
        if run_id is None:
            return None
        try:
            self._client.update_run(run_id, RunStatus.to_string(RunStatus.RUNNING))
        except MlflowException:
            return None  # another store, or deleted by hand
        return Run(self._client, run_id)

    @contextlib.contextmanager
    def _closing(self, run: Run):
        try:
            yield run
        except KeyboardInterrupt:
            run.finish("KILLED")
            raise
        except BaseException:
            run.finish("FAILED")
            raise
        run.finish("FINISHED")


def tracking_uri() -> str:
    """Where runs go, for messages."""
    return mlflow.get_tracking_uri()
