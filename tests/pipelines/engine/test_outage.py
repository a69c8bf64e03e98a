"""A real MLflow server on the loopback device that goes away while a run logs, and comes back."""

import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.command import environment_with
from tfwsss_pipelines.engine.context import UNSENT

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` with a store in a folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._port = found.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        place = ["--backend-store-uri", f"sqlite:///{self._folder}/m.db", "--artifacts-destination", str(self._folder / "artifacts")]
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1", *place]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, env=environment_with(self._folder), stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self._folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.stop()


def test_nothing_is_lost_and_one_warning_is_given(server, tmp_path, monkeypatch, capsys):
    import mlflow

    from tfwsss_pipelines.engine.tracking import Tracker

    monkeypatch.setattr(mlflow, "is_tracking_uri_set", lambda: True)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.address)
    work = tmp_path / "work"
    work.mkdir()
    (work / "weights.txt").write_text("x")
    registered = []
    try:
        tracker = Tracker("animals", work, {"register": lambda client, run, values: registered.append((run, values))})
        with tracker.pipeline_run("p") as parent, tracker.stage_run("classifier", "f", parent) as run:
            for step in range(1, 7):
                if step == 3:
                    server.stop()
                run.metrics({"loss": 1 / step}, step=step)
            run.artifact(work / "weights.txt")
            assert not run.act("register", {"name": "animals"})
        tracker.settle()
        assert capsys.readouterr().err.count("MLflow does not answer") == 2  # when it went, and at the end what waits
        server.start()
        again = Tracker("animals", work, {"register": lambda client, run, values: registered.append((run, values))})
        again.settle()
    finally:
        mlflow.set_tracking_uri(before)
    said = capsys.readouterr()
    assert "MLflow answers again" in said.err and "View run" not in said.out
    assert not (work / UNSENT).exists() and registered == [(run.id, {"name": "animals"})]
    with sqlite3.connect(f"file:{tmp_path}/server/m.db?mode=ro", uri=True) as store:
        assert store.execute("select name, status from runs order by name").fetchall() == [("classifier", "FINISHED"), ("p", "FINISHED")]
        assert store.execute("select step, count(*) from metrics where key = 'loss' group by step").fetchall() == [(step, 1) for step in range(1, 7)]
    assert list((tmp_path / "server/artifacts").rglob("weights.txt"))
