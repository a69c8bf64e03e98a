"""`tfwsss` that kills itself, as kill -9 would, when a progress bar has advanced so many times.

    kill_driver.py BAR COUNT LOG ARGUMENTS...      BAR: the bar's title; LOG: gets one line per advance of every bar
"""

import contextlib
import os
import signal
import sys
from pathlib import Path

from tfwsss_pipelines.engine import progress


class _Counter:
    def __init__(self, title):
        self.title, self.count = title, 0

    def advance(self, images: int = 1) -> None:
        self.count += 1
        with Path(LOG).open("a") as log:
            log.write(f"{self.title}\n")
        if self.title == BAR and self.count == COUNT:
            os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def counting_bar(title, total, enabled=True, detail=str):
    yield _Counter(title)


if __name__ == "__main__":  # worker processes import this file again, with other arguments
    BAR, COUNT, LOG = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    del sys.argv[1:4]
    progress.progress_bar = counting_bar  # before others import it by name
    from tfwsss_pipelines.cli import main

    main()
