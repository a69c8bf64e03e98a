"""Where the time of a stage goes: seconds of each kind of work, added up over all threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator


class Timing:
    """Adds up seconds by kind ("reading", "device", "CRF", ...); may be used from several threads at once."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._inner = threading.local()

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Count the time of the block as `kind`. A block inside another one takes its time away from the outer."""
        outer, self._inner.seconds = getattr(self._inner, "seconds", 0.0), 0.0
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds - self._inner.seconds
            self._inner.seconds = outer + seconds

    def seconds(self) -> dict[str, float]:
        """{kind: seconds so far}, largest first."""
        with self._lock:
            return dict(sorted(self._seconds.items(), key=lambda entry: -entry[1]))

    def add(self, seconds: dict[str, float]) -> None:
        """Seconds by kind that were counted elsewhere."""
        with self._lock:
            for kind, more in seconds.items():
                self._seconds[kind] = self._seconds.get(kind, 0.0) + more

    def take(self) -> dict[str, float]:
        """{kind: seconds since the last call}."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken

    def shares(self) -> str:
        """For people: "device 61 %, CRF 22 %, ..." of all time that was counted; empty before anything was."""
        found = self.seconds()
        total = sum(found.values())
        return ", ".join(f"{kind} {100 * seconds / total:.0f} %" for kind, seconds in found.items() if seconds >= 0.005 * total) if total else ""
