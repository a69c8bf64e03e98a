"""NVIDIA's tritonserver of the wheel nvidia-pytriton, on the loopback interface, with the Python backend only: the wheel has no other."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import NamedTuple

from tests.markdown import ROOT

HOME = Path(os.environ.get("TFWSSS_TRITON", ROOT / ".triton"))  # a virtual environment without this repository
PYTHON = HOME / "bin/python"
START_SECONDS = 240.0


@functools.cache
def _environment() -> dict[str, str]:
    """Of the virtual environment: `packages`, `version`, and `library`, "" where its Python is no shared library."""
    code = """
import json, sysconfig
of = sysconfig.get_config_var
library = f"{of('LIBDIR')}/{of('INSTSONAME')}" if of("Py_ENABLE_SHARED") else ""
print(json.dumps({"packages": sysconfig.get_path("purelib"), "version": sysconfig.get_python_version(), "library": library}))
"""
    return json.loads(subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout)


def _wheel() -> Path:
    return Path(_environment()["packages"]) / "pytriton/tritonserver"


def _stub() -> Path:
    return _wheel() / "python_backend_stubs" / _environment()["version"] / "triton_python_backend_stub"


START_SECONDS = 240.0


def missing() -> str | None:
    """Why the server cannot run here; None where it can."""
    if not PYTHON.exists() or not (_wheel() / "bin/tritonserver").is_file():
        return "no Triton server: make tritonserver"
    if not _stub().is_file():
        return f"Triton's Python backend is not there for Python {_environment()['version']}"
    if not Path(_environment()["library"]).is_file():
        return "Triton's Python backend needs a Python with a shared library"
    return None


class Addresses(NamedTuple):
    """Of a running server, "127.0.0.1:port"; and its log."""

    http: str
    grpc: str
    log: Path


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in opened]


def _backends(folder: Path) -> Path:
    """Triton's Python backend with the program for this Python."""
    backend = folder / "backends/python"
    shutil.copytree(_wheel() / "backends/python", backend)
    shutil.copy(_stub(), backend)
    return backend.parent


@contextlib.contextmanager
def running(repository: Path, folder: Path, *options: str):
    """Yield the Addresses of a server that has tried to load every model of a repository; `folder` is for its files."""
    http, grpc, metrics = _free_ports(3)
    addresses = {"http": http, "grpc": grpc, "metrics": metrics}
    command = [
        str(_wheel() / "bin/tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={_backends(folder)}",
        # Other servers on this machine have shared memory of their own.
        f"--backend-config=python,shm-region-prefix-name={uuid.uuid4().hex}",
        *(option for name, port in addresses.items() for option in (f"--{name}-address=127.0.0.1", f"--{name}-port={port}")),
        "--exit-on-error=false",
        "--exit-timeout-secs=5",
        "--strict-readiness=false",
        *options,
    ]
    # The embedded Python takes its packages from where the first python3 of PATH does; it does not look at PYTHONPATH.
    environment = os.environ | {
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join([str(Path(_environment()["library"]).parent), str(Path(_environment()["packages"]) / "nvidia_pytriton.libs")]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    log = folder / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)
        try:
            _wait(server, f"http://127.0.0.1:{http}/v2/health/ready", log)
            yield Addresses(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", log)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"tritonserver did not start: {log.read_text()[-3000:]}")
        time.sleep(0.2)
