"""Several processes of one training, as TF_CONFIG describes them."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 600  # seconds; workers that wait for each other for ever must not stop the suite


def _free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        found = []
        for _ in range(count):
            listening = sockets.enter_context(socket.socket())
            listening.bind(("127.0.0.1", 0))
            found.append(listening.getsockname()[1])
        return found


@pytest.fixture(scope="session")
def run_workers():
    """run_workers(count, arguments, folder, **variables) -> one CompletedProcess for each worker, the chief first."""

    def run(count: int, arguments: list[str], folder: Path, **variables: str) -> list[subprocess.CompletedProcess]:
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
        started = []
        for index in range(count):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | variables
            if count > 1:
                environment["TF_CONFIG"] = json.dumps(task)
            command = [sys.executable, *arguments]
            started.append(
                (command, subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            )
        try:
            return [subprocess.CompletedProcess(command, process.wait(TIMEOUT), *process.communicate()) for command, process in started]
        finally:
            for _, process in started:
                process.kill()

    return run
