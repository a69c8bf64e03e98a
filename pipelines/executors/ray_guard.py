"""Ends what is left of a Ray cluster of ours when the process that started it has gone, however it went.

Ray's own processes watch each other, but two of them wait for more than a minute to tell the dead head of the cluster that it is dead.

    started with the cluster's folder --> waits until its standard input ends --> kills all processes of the cluster, which are known
    by the folder --> removes the folder
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LINGER_SECONDS = 5.0  # a process that was just starting names the folder, then no longer, and only then has its logs open
EVERY_SECONDS = 0.2
FAREWELL = b"stopped"  # on standard input: the cluster was stopped in order, one look is enough


def start_guard(folder: Path) -> subprocess.Popen | None:
    """A process that waits for the end of this one, or for its standard input to be closed; None where there is no /proc to look into."""
    if not Path("/proc/self/fd").exists():
        return None
    # A session of its own: Ctrl-C in a terminal is for the command, which may take its time to end.
    return subprocess.Popen([sys.executable, "-S", __file__, str(folder)], stdin=subprocess.PIPE, start_new_session=True)


def processes_of(folder: Path) -> list[int]:
    """Processes of the cluster in a folder: Ray's name it as an option, or call themselves "ray::..." later and have logs open there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
            if b"=" + os.fsencode(folder) in line or (line.startswith(b"ray::") and _has_open(process, folder)):
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def _has_open(process: Path, folder: Path) -> bool:
    for file in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if folder in file.readlink().parents:
                return True
    return False


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    deadline = time.monotonic() + (LINGER_SECONDS if sys.stdin.buffer.read() != FAREWELL else 0.0)
    while True:
        for process in processes_of(Path(sys.argv[1])):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() >= deadline:
            break
        time.sleep(EVERY_SECONDS)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
