"""What a stage says of the work it does for each photo; `threads.py` and the clusters decide who does it when."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from .timing import Timing

Item = TypeVar("Item")  # what names a photo
Loaded = TypeVar("Loaded")  # what was read of it
Computed = TypeVar("Computed")  # what a device made of that
Result = TypeVar("Result")  # what the caller gets

Compute = Callable[[list], list]


def _alike(loaded) -> Hashable:
    return None


@dataclass(frozen=True)
class Work(Generic[Item, Loaded, Computed, Result]):
    """Three steps for each photo, each of which runs for several photos at the same time.

    Attributes:
        read: item -> what a device needs. Runs in threads: decoding and resizing release Python's global lock.
        finish: item, computed -> result. Runs in threads; writes the photo's files, the one that says "done" last.
        on_device: makes the step between the two, for the device of a name such as "/GPU:0": a function from a list of what
            was read, of photos of one group, to a list of what was computed. It is called once for each device, in the
            thread that will use it. None: there is nothing for a device to do, `finish` gets what was read.
        group: photos with equal values may go to a device together, for example those of one size.
        batch: how many go together at most.
    """

    read: Callable[[Item], Loaded]
    finish: Callable[[Item, Computed], Result]
    on_device: Callable[[str], Compute] | None = None
    group: Callable[[Loaded], Hashable] = _alike
    batch: int = 1


class Job(Protocol):
    """Work that another process can be told to do: data only, no open file, no photo, no network.

    Attributes:
        folder: below which its results are; whoever does the work must see it.
        network: whether it runs a network, and wants a GPU where there is one.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def network(self) -> bool: ...
    def work(self, timing: Timing) -> Work[Any, Any, Any, Any]:
        """The steps, which measure themselves with the timing."""
    def devices(self) -> tuple[str, ...]:
        """The devices of the process that calls it."""
