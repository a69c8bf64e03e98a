"""MLflow away, deleted or killed: nothing is lost, nothing is there twice, and nothing stays RUNNING."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tfwsss.errors import StageError
from tfwsss_pipelines.engine import outbox as outbox_module
from tfwsss_pipelines.engine.context import UNSENT as FILE
from tfwsss_pipelines.engine.interruption import Interrupted
from tfwsss_pipelines.engine.outbox import Outbox
from tfwsss_pipelines.engine.tracking import Tracker


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def client(store, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    yield MlflowClient(store)
    mlflow.set_tracking_uri(None)


class Away:
    """A client whose server answers only while `there` is true."""

    def __init__(self, client):
        self._client, self.there = client, True

    def __getattr__(self, name):
        def call(*arguments, **more):
            if not self.there:
                raise MlflowException("API request failed: Connection refused\nand more")
            return getattr(self._client, name)(*arguments, **more)

        return call


def state(client, run):
    run = client.get_run(run)
    metrics = {name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}
    return run.info.status, run.data.params, metrics


def test_a_server_that_goes_away_and_comes_back(client, tmp_path, monkeypatch, capsys):
    away = Away(client)
    experiment = client.create_experiment(tmp_path.name)
    (tmp_path / "file.txt").write_text("x")
    for gone_before in range(7):  # whichever entry is the first that does not arrive
        box, place = Outbox(tmp_path, away, lambda: experiment), tmp_path / FILE
        away.there = gone_before != 0
        run = box.begin("a run", {})
        entries = [
            {"do": "params", "values": {"p": "1"}},
            {"do": "metrics", "values": {"m": 1.0}, "step": 1, "time": 1, "again": False},
            {"do": "metrics", "values": {"m": 2.0}, "step": 2, "time": 2, "again": False},
            {"do": "artifact", "path": str(tmp_path / "file.txt"), "folder": ""},
            {"do": "tag", "name": "t", "value": "v"},
            {"do": "finish", "status": "FINISHED", "time": 5},
        ]
        for number, entry in enumerate(entries, 1):
            away.there = number < gone_before
            box.send({"run": run, **entry})
        assert capsys.readouterr().err.count("MLflow does not answer") == 1
        assert place.is_file() and not box.waits_for("another")
        later = Outbox(tmp_path, away, lambda: experiment)  # of the next process
        away.there = True
        later.flush()
        assert not place.exists()
        assert state(client, later.id(run)) == ("FINISHED", {"p": "1"}, {"m": [(1, 1.0), (2, 2.0)]})
        assert [file.path for file in client.list_artifacts(later.id(run))] == ["file.txt"]
    # Within one process: after a while it is tried again.
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(outbox_module, "PATIENCE", 0.0)
    box = Outbox(tmp_path, away, lambda: experiment)
    run = box.begin("a run", {})
    away.there = False
    box.send({"do": "tag", "run": run, "name": "a", "value": "b"})
    away.there = True
    box.send({"do": "tag", "run": run, "name": "c", "value": "d"})
    assert not (tmp_path / FILE).exists() and client.get_run(box.id(run)).data.tags.items() >= {"a": "b", "c": "d"}.items()


def test_what_a_stage_asks_for_waits_too(client, tmp_path, monkeypatch):
    away, done = Away(client), []
    experiment = client.create_experiment(tmp_path.name)

    def act(store, run, values):
        store.set_tag(run, "asked", values["what"])
        done.append(run)

    box = Outbox(tmp_path, away, lambda: experiment, {"ask": act})
    run = box.begin("a run", {})
    away.there = False
    assert not box.send({"do": "ask", "run": run, "values": {"what": "x"}})
    assert not done
    away.there = True
    later = Outbox(tmp_path, away, lambda: experiment, {"ask": act})
    later.settle(attempt=True)
    assert done == [box.id(run)] and client.get_run(box.id(run)).data.tags["asked"] == "x"
    assert later.send({"do": "ask", "run": box.id(run), "values": {"what": "y"}}) and len(done) == 2


def test_what_still_waits_at_the_end_is_said(client, tmp_path, capsys):
    away = Away(client)
    away.there = False
    box = Outbox(tmp_path, away, lambda: "0")
    box.begin("a run", {})
    box.settle(attempt=True)
    assert f"1 entries wait in {tmp_path / FILE}; the next run of the same command sends them" in capsys.readouterr().err


def test_a_run_that_is_deleted_while_it_goes_on_ends_no_training(client, tmp_path, capsys):
    box = Outbox(tmp_path, client, lambda: client.create_experiment(tmp_path.name))
    run = box.begin("a run", {})
    box.send({"do": "metrics", "run": run, "values": {"no, name": 1.0}, "step": 1, "time": 1, "again": False})
    box.send({"do": "tag", "run": run, "name": "a", "value": "b"})  # one bad entry ends nothing
    assert client.get_run(box.id(run)).data.tags["a"] == "b"
    assert capsys.readouterr().err.count("is dropped") == 1
    client.delete_run(box.id(run))
    for step in range(3):
        box.send({"do": "metrics", "run": run, "values": {"loss": 1.0}, "step": step, "time": 1, "again": False})
    assert capsys.readouterr().err.count("is dropped") == 1 and not (tmp_path / FILE).exists()
    with pytest.raises(MlflowException):
        box.send({"do": "reopen", "run": run})


def test_a_server_that_is_silent_is_left_alone_for_longer(client, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(outbox_module.time, "monotonic", lambda: clock[0])
    away, tries = Away(client), []

    def experiment():
        tries.append(clock[0])
        clock[0] += 30.0
        raise MlflowException("timed out")

    box = Outbox(tmp_path, away, experiment)
    box.begin("a run", {})
    for _ in range(100):
        clock[0] += 10.0
        box.send({"do": "tag", "run": "x", "name": "a", "value": "b"})
    assert len(tries) < 4  # less than a tenth of the time


def test_a_local_name_is_not_what_is_left_open(client, tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(outbox_module, "PATIENCE", 0.0)
    tracker = Tracker(tmp_path.name, tmp_path)
    away = tracker._outbox._client = Away(client)
    away.there = False
    opened = tracker.pipeline_run("p")  # kept: collected, it would be closed
    run = opened.__enter__()
    assert run.id.startswith("local-")
    away.there = True
    run.tag("a", "b")
    assert json.loads((tmp_path / ".open_runs.json").read_text()) == [run.id] and not (tmp_path / FILE).exists()
    Tracker(tmp_path.name, tmp_path)
    assert client.get_run(run.id).info.status == "KILLED"


def test_a_line_cut_by_a_kill_and_a_run_deleted_meanwhile(client, tmp_path, capsys):
    experiment = client.create_experiment(tmp_path.name)
    (tmp_path / FILE).write_text('{"do": "tag", "run": "' + "0" * 32 + '", "name": "a", "value": "b"}\n{"do": "met')
    Outbox(tmp_path, client, lambda: experiment).flush()
    assert not (tmp_path / FILE).exists() and "is dropped" in capsys.readouterr().err


def test_a_run_that_goes_on_has_every_step_once(client, tmp_path):
    tracker = Tracker(tmp_path.name, tmp_path)
    with pytest.raises(Interrupted), tracker.pipeline_run("p") as parent, tracker.stage_run("s", "f", parent) as run:
        run.metrics({"loss": 1.0}, step=1)
        number = run.id
        raise Interrupted(signal.SIGTERM)
    assert client.get_run(number).info.status == "KILLED" and client.get_run(parent.id).info.status == "KILLED"
    with tracker.pipeline_run("p") as parent, tracker.stage_run("s", "f", parent, number) as run:
        for step, loss in ((1, 1.0), (2, 0.5)):
            run.metrics({"loss": loss, "f1": loss}, step=step)
        assert run.id == number
    assert state(client, number)[2] == {"loss": [(1, 1.0), (2, 0.5)], "f1": [(1, 1.0), (2, 0.5)]}
    assert json.loads((tmp_path / ".open_runs.json").read_text()) == []


def test_runs_that_a_kill_left_open_are_closed(client, tmp_path):
    tracker = Tracker(tmp_path.name, tmp_path)
    parent = tracker.pipeline_run("p")
    run = parent.__enter__()
    child = tracker.stage_run("s", "f", run)  # kept: collected, it would be closed
    child.__enter__()
    opened = json.loads((tmp_path / ".open_runs.json").read_text())
    assert len(opened) == 2
    Tracker(tmp_path.name, tmp_path)
    assert {client.get_run(number).info.status for number in opened} == {"KILLED"}


def test_a_deleted_experiment_is_one_line(client, tmp_path):
    Tracker(tmp_path.name, tmp_path)
    client.delete_experiment(client.get_experiment_by_name(tmp_path.name).experiment_id)
    with pytest.raises(StageError, match=f"the experiment '{tmp_path.name}' is deleted in sqlite.*mlflow experiments restore --experiment-id"):
        Tracker(tmp_path.name, tmp_path)


def test_a_server_that_is_away_at_the_start(tmp_path, monkeypatch, capsys, store):
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://user:secret@127.0.0.1:9")
    try:
        tracker = Tracker(tmp_path.name, tmp_path)
        with tracker.pipeline_run("p") as parent, tracker.stage_run("s", "f", parent) as run:
            run.metrics({"a": 1.0})
        name = run.id
    finally:
        mlflow.set_tracking_uri(store)
    said = capsys.readouterr().err
    assert said.count("MLflow does not answer") == 1 and "secret" not in said and name.startswith("local-")
    tracker = Tracker(tmp_path.name, tmp_path)
    number = tracker._outbox.id(name)
    assert state(MlflowClient(store), number) == ("FINISHED", {}, {"a": [(0, 1.0)]})
    mlflow.set_tracking_uri(None)


CODE = """
import sys
from tfwsss_pipelines.engine.tracking import Tracker
tracker = Tracker("x")
with tracker.pipeline_run("p") as parent, tracker.stage_run("s", "f", parent) as run:
    run.metrics({"a": 1.0})
print("fine")
"""


@pytest.mark.slow
def test_a_kill_while_the_store_is_made_breaks_no_later_run(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    for share in (0.1, 0.5, 0.9):  # of the time from the file's first byte to its name
        folder = tmp_path / str(share)
        folder.mkdir()
        process = subprocess.Popen([sys.executable, "-c", CODE], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        unfinished = folder / "mlflow.db.tfwsss-new"
        while process.poll() is None and not unfinished.exists():
            time.sleep(0.002)
        while process.poll() is None and unfinished.exists() and unfinished.stat().st_size < share * 700_000:
            time.sleep(0.002)
        process.kill()
        process.wait()
        done = subprocess.run([sys.executable, "-c", CODE], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "fine", done.stderr
        assert sorted(path.name for path in folder.iterdir() if path.name != "mlruns") == ["mlflow.db", "mlflow.db.lock"]
