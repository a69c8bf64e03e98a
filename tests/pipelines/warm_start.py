"""The command line in a process forked from one that has imported TensorFlow and MLflow: ten seconds less for each of many runs.

`forked(...)` gives what `subprocess.run` would. The fork server imports nothing of this project, so the code that runs is
read anew each time, and drivers can change it before it is imported.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

PRELOADED = ["tensorflow", "keras", "mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "onnxruntime", "tf2onnx", "pandas"]


def _work(folder: Path, program: str, arguments: tuple[str, ...], environment: dict[str, str], output: Path, errors: Path) -> None:
    for number, path in ((1, output), (2, errors)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__") if program.endswith(".py") else runpy.run_module(program, run_name="__main__", alter_sys=True)


def forked(folder: Path, program: str, arguments: tuple[str, ...], environment: dict[str, str], logs: Path) -> subprocess.CompletedProcess:
    """Run a module or a script's path as `__main__` in `folder`; standard output and error pass through files in `logs`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    output, errors = logs / "output.txt", logs / "errors.txt"
    process = context.Process(target=_work, args=(folder, program, arguments, environment, output, errors))
    process.start()
    process.join()
    return subprocess.CompletedProcess([program, *arguments], process.exitcode, *(path.read_text(encoding="utf-8") for path in (output, errors)))
