"""Runs the per-photo work of a stage: readers decode ahead, devices compute, finishers refine and write, all side by side.

    items --> readers (threads) --> one queue --> a thread for each device --> finishers (threads) --> results, in order

At most `window` photos are under way, those whose results nobody has taken yet included: memory does not grow with their
number. The first error in the order of the items is raised, and nothing that has not begun is begun any more.

Threads, not processes: everything costly (decoding, resizing, TensorFlow, the compiled CRF and walk, compression) releases
Python's global lock, and nothing has to be copied from one process to another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic

from .timing import Timing
from .work import Computed, Item, Loaded, Result, Work

AHEAD = 4  # photos under way for each of the threads that read or finish, beside those of the devices


@dataclass
class _Slot(Generic[Item, Loaded, Result]):
    """A photo under way."""

    item: Item
    loaded: Loaded | None = None
    done: Future = field(default_factory=Future)


class _Ready:
    """Photos that were read and wait for a device."""

    def __init__(self) -> None:
        self._slots: deque[_Slot] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, slot: _Slot) -> None:
        with self._changed:
            self._slots.append(slot)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, work: Work) -> list[_Slot]:
        """The photo that has waited longest and others of its group; waits for one, and is empty after `close`."""
        with self._changed:
            while not self._slots and not self._closed:
                self._changed.wait()
            if self._closed:
                return []
            group = work.group(self._slots[0].loaded)
            batch = [slot for slot in self._slots if work.group(slot.loaded) == group][: work.batch]
            self._slots = deque(slot for slot in self._slots if slot not in batch)
            return batch


class Engine(Generic[Item, Loaded, Computed, Result]):
    """The threads, from `with Engine(...)` to the end of the block. Arguments as `run_images`."""

    def __init__(self, work: Work[Item, Loaded, Computed, Result], workers: int, devices: tuple[str, ...] = ("/CPU:0",), timing: Timing | None = None):
        self.work, self.timing = work, timing or Timing()
        self.ready = _Ready()
        self.stopped = threading.Event()
        used = devices if work.on_device is not None else ()
        self.window = workers * AHEAD + len(used) * 2 * work.batch
        self._made: dict[str, Future] = {}
        self._devices = [threading.Thread(target=self.use_device, args=(name,), name=f"device {name}", daemon=True) for name in used]
        self.readers = ThreadPoolExecutor(workers, "reader")
        self.finishers = ThreadPoolExecutor(workers, "finisher")

    def __enter__(self) -> Engine[Item, Loaded, Computed, Result]:
        for thread in self._devices:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        for thread in self._devices:
            thread.join()

    def start_ready(self) -> Engine[Item, Loaded, Computed, Result]:
        """`__enter__`, and what the devices need is made now and not with the first photos.

        Raises:
            The error of the first device whose part cannot be made.
        """
        self._made = {thread.name.removeprefix("device "): Future() for thread in self._devices}
        self.__enter__()
        for made in self._made.values():
            made.result()
        return self

    def results(self, items: Iterable[Item]) -> Iterator[Result]:
        """As `run_images`; several threads may call it at the same time, each for items of its own."""
        under_way: deque[_Slot] = deque()
        for item in items:
            under_way.append(self.begin(item))
            if len(under_way) >= self.window:
                yield under_way.popleft().done.result()
        while under_way:
            yield under_way.popleft().done.result()

    def begin(self, item: Item) -> _Slot:
        slot: _Slot = _Slot(item)
        self.readers.submit(self._read, slot)
        return slot

    def _read(self, slot: _Slot) -> None:
        if self.stopped.is_set():
            return
        try:
            with self.timing.measure("reading"):
                slot.loaded = self.work.read(slot.item)
        except BaseException as error:  # whatever it is, somebody waits for this photo
            slot.done.set_exception(error)
            return
        if self.work.on_device is None:
            self._hand_on(slot, slot.loaded)
        else:
            self.ready.put(slot)

    def use_device(self, name: str) -> None:
        """Body of a device's thread."""
        assert self.work.on_device is not None
        compute = None
        if name in self._made:
            try:
                compute = self.work.on_device(name)
                self._made[name].set_result(None)
            except BaseException as error:
                self._made[name].set_exception(error)
                return
        while batch := self._next_batch():
            try:
                with self.timing.measure("device"):
                    compute = compute or self.work.on_device(name)
                    computed = compute([slot.loaded for slot in batch])
                if len(computed) != len(batch):
                    raise ValueError(f"{name} got {len(batch)} photos and returned {len(computed)}")
                for slot, one in zip(batch, computed, strict=True):
                    self._hand_on(slot, one)
            except BaseException as error:
                for slot in batch:
                    if not slot.done.done():
                        slot.done.set_exception(error)

    def _next_batch(self) -> list[_Slot]:
        with self.timing.measure("waiting"):
            return self.ready.take(self.work)

    def _hand_on(self, slot: _Slot, computed: Loaded | Computed) -> None:
        slot.loaded = None  # not needed again, and large
        try:
            self.finishers.submit(self._finish, slot, computed)
        except RuntimeError:  # shut down meanwhile: nobody waits any more
            slot.done.cancel()

    def _finish(self, slot: _Slot, computed: Any) -> None:
        if self.stopped.is_set():
            return
        try:
            with self.timing.measure("finishing"):
                slot.done.set_result(self.work.finish(slot.item, computed))
        except BaseException as error:
            slot.done.set_exception(error)

    def stop(self) -> None:
        """Begin nothing any more; wait for what has begun, which may be writing a file."""
        self.stopped.set()
        self.ready.close()
        self.readers.shutdown(cancel_futures=True)
        self.finishers.shutdown(cancel_futures=True)


def run_images(
    items: Iterable[Item],
    work: Work[Item, Loaded, Computed, Result],
    *,
    workers: int,
    devices: tuple[str, ...] = ("/CPU:0",),
    timing: Timing | None = None,
) -> Iterator[Result]:
    """Do the work for every item and yield the results in the items' order.

    Args:
        items: taken only as far ahead as photos may be under way.
        work: the three steps.
        workers: threads that read, and as many that finish.
        devices: names of TensorFlow's devices, for work that has something to do on one.
        timing: gets the seconds of "reading", "device", "waiting" (of the devices, for photos) and "finishing"; the steps may take parts of them for kinds of their own.

    Raises:
        The first error in the order of the items, whatever its kind.
    """
    with Engine(work, workers, devices, timing) as engine:
        yield from engine.results(items)
