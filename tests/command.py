"""The installed command `tfwsss`, as users start it.

Two tests start it otherwise: those of the pipelines need many runs, so they fork them from a warm process
(tests/pipelines/warm_start.py), and those of messages alone call the entry point in their own (tests/pipelines/test_cli.py).
"""

import os
import subprocess
import sys
from pathlib import Path


def environment_with(folder: Path, **variables: str) -> dict[str, str]:
    """This process's environment with a folder on PYTHONPATH, and our commands on PATH."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(folder), "PATH": commands, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


def run_command(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """`tfwsss ARGUMENTS` in a folder that is on PYTHONPATH, too."""
    return subprocess.run(["tfwsss", *arguments], cwd=folder, env=environment_with(folder, **variables), capture_output=True, text=True)
