"""Progress bars with images per second, for every stage alike."""

import contextlib
import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from .terminal import console

__all__ = ["console", "progress_bar"]

LINE_EVERY_SECONDS = 15.0  # without a terminal (CI, nohup) a bar would be noise: a line now and then instead


class _RateColumn(ProgressColumn):
    def render(self, task):
        return Text(f"{task.speed:.1f} images/s" if task.speed else "")


class _Lines:
    """Progress for logs."""

    def __init__(self, title: str, total: int):
        self.title, self.total, self.done = title, total, 0
        self.started = self.last = time.monotonic()

    def advance(self, images: int = 1) -> None:
        self.done += images
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_SECONDS:
            self.last = now
            rate = self.done / (now - self.started)
            console.print(f"  {self.title}: {self.done}/{self.total} images, {rate:.1f} images/s")


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int):
        self.progress, self.task = progress, progress.add_task(title, total=total)

    def advance(self, images: int = 1) -> None:
        self.progress.advance(self.task, images)


class _Silent:
    def advance(self, images: int = 1) -> None:
        pass


@contextlib.contextmanager
def progress_bar(title: str, total: int, enabled: bool = True):
    """Yield an object with `advance(images)`."""
    if not enabled:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines(title, total)
    else:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Bar(progress, title, total)
