"""Progress bars with images per second, for every stage alike."""

import contextlib
import sys
import time
from collections.abc import Callable

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

    def __init__(self, title: str, total: int, detail: Callable[[], str]):
        self.title, self.total, self.detail, self.done = title, total, detail, 0
        self.started = self.last = time.monotonic()

    def advance(self, images: int = 1) -> None:
        self.done += images
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_SECONDS:
            self.last = now
            rate = self.done / (now - self.started)
            console.print(f"  {self.title}: {self.done}/{self.total} images, {rate:.1f} images/s{_after(self.detail())}")


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int, detail: Callable[[], str]):
        self.progress, self.detail = progress, detail
        self.task = progress.add_task(title, total=total, detail="")

    def advance(self, images: int = 1) -> None:
        self.progress.update(self.task, advance=images, detail=self.detail())


class _Silent:
    def advance(self, images: int = 1) -> None:
        pass


def _after(detail: str) -> str:
    return f"; {detail}" if detail else ""


@contextlib.contextmanager
def progress_bar(title: str, total: int, enabled: bool = True, detail: Callable[[], str] = str):
    """Yield an object with `advance(images)`; `detail` gives what else to show, such as where the time goes."""
    if not enabled:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines(title, total, detail)
    else:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn(), TextColumn("{task.fields[detail]}"))
        with Progress(*columns, console=console, transient=True) as progress:
            yield _Bar(progress, title, total, detail)
