"""MLflow: one run for the pipeline, one child run for each stage.

The store is what MLFLOW_TRACKING_URI says; without it, the SQLite file ./mlflow.db with every MLflow release. Everything is
logged explicitly; nothing depends on autologging. Where a server does not answer, a run goes on (see `outbox.py`). Runs that a
kill has left open are closed as KILLED when the next run begins in the same work directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from tfwsss.errors import DataError, StageError
from tfwsss.storage.atomic import read_json, remove, write_json

from ..preflight.inputs import DEFAULT_STORE
from .context import OPEN_RUNS
from .failures import is_outer, one_line, redact
from .interruption import Interrupted
from .outbox import LOCAL, Outbox, now, refused

FINGERPRINT_TAG = "tfwsss.fingerprint"
STAGE_TAG = "tfwsss.stage"
PARENT_TAG = "mlflow.parentRunId"
MAX_PARAMS = 100  # that one call to a store may bring
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

    def __init__(self, outbox: Outbox, name: str, again: bool = False):
        self._outbox, self._name, self._again = outbox, name, again

    @property
    def id(self) -> str:
        """The store's; a local name while the store does not answer."""
        return self._outbox.id(self._name)

    def _send(self, do: str, **more) -> bool:
        return self._outbox.send({"do": do, "run": self._name, **more})

    def params(self, values: dict) -> None:
        texts = [(name, str(value)[:MAX_VALUE]) for name, value in flatten(values).items()]
        for start in range(0, len(texts), MAX_PARAMS):
            self._send("params", values=dict(texts[start : start + MAX_PARAMS]))

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """All of one step together. In a run that goes on, what the store has already is not written a second time."""
        if values:
            self._send("metrics", values={name: float(value) for name, value in values.items()}, step=step, time=now(), again=self._again)

    def tag(self, name: str, value: str) -> None:
        self._send("tag", name=name, value=value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder under its own name; in `folder` of the run's files."""
        self._send("artifact", path=str(path), folder=folder)

    def act(self, action: str, values: dict) -> bool:
        """One of the actions that the stages bring, see `Stage.actions`; `values` in JSON's types. False: it is done later."""
        return self._send(action, values=values)

    def finish(self, status: str) -> None:
        """`status`: FINISHED, FAILED or KILLED."""
        self._send("finish", status=status, time=now())


@contextlib.contextmanager
def _alone_in_new_store():
    """MLflow makes the tables of a new SQLite file step by step: a second process that starts meanwhile would fail, and so would
    every later one after a kill. So it is made under another name, by one process at a time."""
    scheme, found, path = mlflow.get_tracking_uri().partition("sqlite:///")
    if scheme or not found or not Path(path).parent.is_dir():
        yield  # a server, a folder, another database, or a place that MLflow will complain about
        return
    with Path(f"{path}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not Path(path).exists():
            _make_store(Path(path))
        yield


def _make_store(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.tfwsss-new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        remove(f"{unfinished}{suffix}")
    client = MlflowClient(f"sqlite:///{unfinished}")
    client.search_experiments(max_results=1)
    with contextlib.suppress(AttributeError):  # how MLflow keeps its connection is its own affair
        client._tracking_client.store.engine.dispose()
    unfinished.rename(path)


class Tracker:
    """Opens runs in one experiment.

    Args:
        experiment: its name; created when absent.
        work: the work directory, where what cannot be sent is kept, and which runs are open; None: nowhere.
        actions: see `Outbox`.

    Raises:
        StageError: the store is unusable, or the experiment is deleted.
    """

    def __init__(self, experiment: str, work: Path | None = None, actions: Mapping[str, Callable] | None = None):
        # A server that is away costs seconds, not minutes, at each of a run's steps.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of each attempt
        if not mlflow.is_tracking_uri_set():  # MLflow's own default is the folder ./mlruns in older releases, and where that exists
            mlflow.set_tracking_uri(f"sqlite:///{Path(DEFAULT_STORE).absolute()}")
        self._name = experiment
        self._number: str | None = None
        self._open = None if work is None else work / OPEN_RUNS
        # `mlflow run` has opened a run already and names it here; the pipeline's run is then that one.
        self._outer_run = os.environ.get("MLFLOW_RUN_ID")
        started = time.monotonic()
        try:
            with _alone_in_new_store():
                self._client = MlflowClient()
            self._outbox = Outbox(work, self._client, self._experiment_id, actions, self._rename)
            self._experiment_id()
            self._outbox.flush()
            self._close_killed()
        except StageError:
            raise
        except Exception as error:
            if not is_outer(error):
                raise
            if not mlflow.get_tracking_uri().startswith("http"):
                raise StageError(f"MLflow's store {tracking_uri()} cannot be used: {one_line(error)}") from error
            self._outbox.away(error, time.monotonic() - started)

    def _experiment_id(self) -> str:
        if self._number is None:
            self._number = self._outer_experiment(self._outer_run) if self._outer_run else self._find_experiment()
        return self._number

    def _outer_experiment(self, run: str) -> str:
        try:
            return self._client.get_run(run).info.experiment_id
        except MlflowException as error:
            if not refused(error):
                raise
            raise StageError(
                f"MLFLOW_RUN_ID names the run {run}, which {tracking_uri()} does not hold; "
                "give MLFLOW_TRACKING_URI as an absolute address (a relative SQLite path depends on the folder)"
            ) from None

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            try:
                return self._client.create_experiment(self._name)
            except MlflowException:
                found = self._client.get_experiment_by_name(self._name)  # by a run that started at the same moment?
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise StageError(
                f"the experiment {self._name!r} is deleted in {tracking_uri()}: restore it "
                f"(mlflow experiments restore --experiment-id {found.experiment_id}), or set `name` to another"
            )
        return found.experiment_id

    # -------------------------------------------------------------------------------------------- open runs

    def _opened(self) -> list[str]:
        try:
            found = read_json(self._open) if self._open else None
        except DataError:
            found = None
        return found if isinstance(found, list) else []

    def _note(self, opened: list[str]) -> None:
        if self._open is not None:
            write_json(self._open, opened)

    def _rename(self) -> None:
        """Local names that the store has replaced would mean nothing to the next process."""
        if opened := self._opened():
            self._note([self._outbox.id(name) for name in opened])

    def _close_killed(self) -> None:
        """Nobody else works in this directory: whatever is noted as open was left by a process that is gone."""
        for name in self._opened():
            try:
                run = self._client.get_run(self._outbox.id(name))
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "KILLED")
            except MlflowException as error:
                if not refused(error):
                    raise
        self._note([])

    # --------------------------------------------------------------------------------------------------- runs

    @contextlib.contextmanager
    def pipeline_run(self, name: str):
        """The parent run, closed with the outcome of the block. One that `mlflow run` opened is left for it to close."""
        if self._outer_run:
            yield Run(self._outbox, self._outer_run)
            return
        with self._closing(self._outbox.begin(name, {})) as run:
            yield run

    def settle(self, attempt: bool = True) -> None:
        """See `Outbox.settle`."""
        self._outbox.settle(attempt)

    @contextlib.contextmanager
    def stage_run(self, stage: str, fingerprint: str, parent: Run, resume_id: str | None = None):
        """A child run. An unfinished stage goes on in the run it began in, if the store still has it."""
        again = resume_id if resume_id is not None and self._reopen(resume_id) else None
        with self._closing(again or self._outbox.begin(stage, {PARENT_TAG: parent._name}), again is not None) as run:
            run.tag(FINGERPRINT_TAG, fingerprint)
            run.tag(STAGE_TAG, stage)
            yield run

    def _reopen(self, name: str) -> bool:
        if name.startswith(LOCAL) and self._outbox.id(name) == name and not self._outbox.waits_for(name):
            return False
        try:
            self._outbox.send({"do": "reopen", "run": name})
        except MlflowException:
            return False  # another store, or deleted by hand
        return True

    @contextlib.contextmanager
    def _closing(self, name: str, again: bool = False):
        run = Run(self._outbox, name, again)
        self._note([*self._opened(), run.id])
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        except (KeyboardInterrupt, Interrupted):
            status = "KILLED"
            raise
        finally:
            run.finish(status)
            self._note([other for other in self._opened() if self._outbox.id(other) != run.id])


def tracking_uri() -> str:
    """Where runs go, for messages: without user name and password."""
    return redact(mlflow.get_tracking_uri())
