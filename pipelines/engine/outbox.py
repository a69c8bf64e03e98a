"""What goes to MLflow, in order: at once where its store answers, and else from a file in the work directory when it does again.

A run that was begun without the store has a name of its own (`local-...`) until the store gives it one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tfwsss.errors import DataError
from tfwsss.storage.atomic import remove, write_text

from .failures import one_line
from .terminal import console

FILE = ".tracking.jsonl"
LOCAL = "local-"
RETRY_SECONDS = 60.0
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
    """

    def __init__(self, folder: Path | None, client: MlflowClient, experiment: Callable[[], str]):
        self._path = None if folder is None else folder / FILE
        self._client, self._experiment = client, experiment
        self._ids: dict[str, str] = {}  # local name -> id
        self._logged: dict[tuple[str, str], set[int]] = {}  # (run, metric) -> steps that the store has, of runs that go on
        self._waiting: list[dict] = []
        self._tried = 0.0
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

    def send(self, entry: dict) -> None:
        """Send an entry behind those that wait; if that cannot be, keep it.

        Raises:
            MlflowException: the store refuses it.
        """
        if not self._waiting:
            try:
                self._apply(entry)
                return
            except Exception as error:
                if refused(error):
                    raise
                self._away(error)
        self._keep(entry)
        if time.monotonic() - self._tried > RETRY_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what waits. What the store refuses, because a run was deleted meanwhile, is dropped and said."""
        sent, dropped = 0, 0
        self._tried = time.monotonic()
        for entry in self._waiting:
            try:
                self._apply(entry)
            except Exception as error:
                if not refused(error) and not isinstance(error, DataError):
                    break
                dropped += 1
                if dropped == 1:
                    console.print(f"  MLflow takes an entry no more, it is dropped: {one_line(error)}", style="yellow", markup=False)
            sent += 1
        if sent:
            self._waiting = self._waiting[sent:]
            console.print(f"  MLflow answers again: {sent - dropped} entries sent, {len(self._waiting)} wait", markup=False)
            self._write()

    def _away(self, error: Exception) -> None:
        self._tried = time.monotonic()
        where = "in memory" if self._path is None else f"in {self._path}"
        console.print(f"MLflow does not answer ({one_line(error)[:200]}): the run goes on; what is logged is kept {where} and sent later", style="yellow", markup=False)

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
