"""What goes to MLflow, in order: at once where its store answers, and else from a file in the work directory when it does again.

A run that was begun without the store has a name of its own (`local-...`) until the store gives it one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import LifecycleStage, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tfwsss.errors import DataError, StageError
from tfwsss.storage.atomic import remove, write_text

from .context import UNSENT
from .failures import is_outer, one_line
from .terminal import console

LOCAL = "local-"
RETRY_SECONDS = 60.0
PATIENCE = 20.0  # an attempt that fails slowly, as with a server that is silent, is repeated after so many times its duration
# Answers of the store itself: asking again would give the same one.
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "PERMISSION_DENIED"}


def now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)


def refused(error: Exception) -> bool:
    """Whether the store has answered, and its answer is no."""
    return isinstance(error, MlflowException) and error.error_code in REFUSED


class Outbox:
    """Entries are dicts with `do`, `run` and what the action needs; see `_apply`.

    Args:
        folder: the work directory; None keeps what cannot be sent in memory only.
        client: of the store.
        experiment: function that gives the experiment's id, and raises where the store does not answer.
        on_sent: called when runs that had a local name may have got their own.
        actions: what stages add: name of an entry's `do` -> function (client, run's id, values). It may be called again with the
            values of a call that failed, and raises `DataError` where that cannot succeed any more.
    """

    def __init__(
        self,
        folder: Path | None,
        client: MlflowClient,
        experiment: Callable[[], str],
        actions: Mapping[str, Callable[[MlflowClient, str, dict], None]] | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ):
        self._path = None if folder is None else folder / UNSENT
        self._client, self._experiment, self._actions, self._on_sent = client, experiment, actions or {}, on_sent
        self._ids: dict[str, str] = {}  # local name -> id
        self._logged: dict[tuple[str, str], set[int]] = {}  # (run, metric) -> steps that the store has, of runs that go on
        self._waiting: list[dict] = []
        self._again_at = 0.0  # when the store is asked again
        self._ended: set[str] = set()  # runs of which the store takes no entry any more
        self._read()

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                if entry["do"] == "known":
                    self._ids[entry["run"]] = entry["id"]
                else:
                    self._waiting.append(entry)
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when the process was killed

    def id(self, run: str) -> str:
        """The store's id of a run; its local name where the store does not know it yet."""
        return self._ids.get(run, run)

    def waits_for(self, run: str) -> bool:
        """Whether the beginning of a run is still to be sent."""
        return any(entry["do"] == "begin" and entry["run"] == run for entry in self._waiting)

    def begin(self, name: str, tags: dict[str, str]) -> str:
        """A new run."""
        run = LOCAL + uuid.uuid4().hex
        self.send({"do": "begin", "run": run, "name": name, "tags": tags, "time": now()})
        return run

    def send(self, entry: dict) -> bool:
        """Send an entry behind those that wait; if that cannot be, keep it.

        A run that was deleted while it goes on is said once; its further entries are dropped.

        Returns:
            Whether it waits no more.

        Raises:
            MlflowException: the store refuses to begin a run, or to open it again.
        """
        if entry["do"] != "reopen" and self.id(entry["run"]) in self._ended:
            return True
        if not self._waiting and time.monotonic() >= self._again_at:
            started = time.monotonic()
            try:
                self._apply(entry)
                return True
            except Exception as error:
                if refused(error) and entry["do"] not in ("begin", "reopen"):
                    self._drop(entry, error)
                    return True
                if refused(error) or isinstance(error, StageError) or not is_outer(error):
                    raise
                self.away(error, time.monotonic() - started)
        self._keep(entry)
        if time.monotonic() >= self._again_at:
            self.flush()
        return not self._waiting

    def flush(self) -> None:
        """Send what waits. What the store refuses, because a run was deleted meanwhile, is dropped and said."""
        sent, dropped, started = 0, 0, time.monotonic()
        for entry in self._waiting:
            try:
                if self.id(entry["run"]) in self._ended:
                    dropped += 1
                else:
                    self._apply(entry)
            except Exception as error:
                if not refused(error) and not isinstance(error, DataError):
                    if not is_outer(error):
                        raise
                    self._wait(time.monotonic() - started)
                    break
                dropped += 1
                self._drop(entry, error)
            sent += 1
        if sent:
            self._waiting = self._waiting[sent:]
            console.print(f"  MLflow answers again: {sent - dropped} entries sent, {len(self._waiting)} wait", markup=False)
            self._on_sent()
            self._write()

    def settle(self, attempt: bool) -> None:
        """At the end of a run: a word on what still waits, after a last `attempt` to send it."""
        if attempt:
            self.flush()
        if self._waiting and self._path is not None:
            console.print(f"MLflow does not answer: {len(self._waiting)} entries wait in {self._path}; the next run of the same command sends them", style="yellow", markup=False)

    def away(self, error: Exception, took: float = 0.0) -> None:
        """Say that the store does not answer, and leave it alone for a while.

        Args:
            error: what was seen instead of an answer.
            took: seconds until then.
        """
        where = "in memory" if self._path is None else f"in {self._path}"
        console.print(f"MLflow does not answer ({one_line(error)[:200]}): the run goes on; what is logged is kept {where} and sent later", style="yellow", markup=False)
        self._wait(took)

    def _wait(self, took: float) -> None:
        self._again_at = time.monotonic() + max(RETRY_SECONDS, PATIENCE * took)

    def _drop(self, entry: dict, error: Exception) -> None:
        run = self.id(entry["run"])
        if run not in self._ended:
            console.print(f"  MLflow refuses an entry of run {run}, it is dropped: {one_line(error)}", style="yellow", markup=False)
            if refused(error) and not self._goes_on(run):
                self._ended.add(run)

    def _goes_on(self, run: str) -> bool:
        try:
            return self._client.get_run(run).info.lifecycle_stage == LifecycleStage.ACTIVE
        except Exception as error:
            return not refused(error)

    def _keep(self, entry: dict) -> None:
        self._waiting.append(entry)
        if self._path is not None:
            new = not self._path.exists()
            with self._path.open("a", encoding="utf-8") as file:
                known = [{"do": "known", "run": run, "id": number} for run, number in self._ids.items()] if new else []
                file.writelines(json.dumps(line) + "\n" for line in (*known, entry))

    def _write(self) -> None:
        if self._path is None:
            return
        if not self._waiting:
            remove(self._path)
            return
        known = [{"do": "known", "run": run, "id": number} for run, number in self._ids.items()]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in (*known, *self._waiting)))

    def _apply(self, entry: dict) -> None:
        run, do = self.id(entry["run"]), entry["do"]
        if do == "begin":
            tags = {name: self.id(value) for name, value in entry["tags"].items()}
            created = self._client.create_run(self._experiment(), start_time=entry["time"], tags=tags, run_name=entry["name"])
            self._ids[entry["run"]] = created.info.run_id
        elif do == "reopen":
            self._client.update_run(run, RunStatus.to_string(RunStatus.RUNNING))
        elif do == "params":
            self._client.log_batch(run, params=[Param(name, value) for name, value in entry["values"].items()])
        elif do == "metrics":
            known = self._logged_steps(run, entry) if entry["again"] else {}
            values = {name: value for name, value in entry["values"].items() if entry["step"] not in known.get(name, ())}
            if values:
                self._client.log_batch(run, metrics=[Metric(name, value, entry["time"], entry["step"]) for name, value in values.items()])
        elif do == "tag":
            self._client.log_batch(run, tags=[RunTag(entry["name"], entry["value"])])
        elif do == "artifact":
            self._upload(run, Path(entry["path"]), entry["folder"])
        elif do == "finish":
            self._client.set_terminated(run, entry["status"], entry["time"])
        elif do in self._actions:
            self._actions[do](self._client, run, entry["values"])

    def _logged_steps(self, run: str, entry: dict) -> dict[str, set[int]]:
        for name in entry["values"]:
            if (run, name) not in self._logged:
                self._logged[run, name] = {metric.step for metric in self._client.get_metric_history(run, name)}
        return {name: self._logged[run, name] for name in entry["values"]}

    def _upload(self, run: str, path: Path, folder: str) -> None:
        if path.is_dir():
            self._client.log_artifacts(run, str(path), f"{folder}/{path.name}" if folder else path.name)
        elif path.is_file():
            self._client.log_artifact(run, str(path), folder or None)
        else:
            raise DataError(f"{path}: gone before it could be sent")
