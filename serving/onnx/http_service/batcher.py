"""Dynamic batching: photos of one size that wait at the same time run together; others run between the tiles of a large one."""

from __future__ import annotations

import asyncio
import collections
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, NamedTuple

import numpy as np

from ..cancellation import Cancellation


class Segmented(NamedTuple):
    """A mask uint8 [H, W] and how it came about."""

    mask: np.ndarray
    queue_s: float
    inference_s: float
    batch: int


class _Waiting(NamedTuple):
    image: np.ndarray
    result: asyncio.Future
    arrived: float


class _Large:
    """A photo that is cut into tiles, and is under way."""

    def __init__(self, item: _Waiting, segmenter):
        self.item = item
        self.cancellation = Cancellation(return_memory=True)
        self.waited = time.perf_counter() - item.arrived
        self.took = 0.0
        self._steps = segmenter.in_steps(item.image, self.cancellation)

    def step(self) -> np.ndarray | None:
        """Run one tile; the mask after the last one."""
        started = time.perf_counter()
        try:
            return next(self._steps)
        finally:
            self.took += time.perf_counter() - started


class Batcher:
    """Runs one batch at a time, oldest photo first, in a thread of its own. Photos that are cut into tiles run one after the
    other, and after each tile comes a batch of what waits beside them.

    Args:
        segmenter: the runtime.
        max_batch: photos of one size that run together at most.
        max_megapixels: pixels that run together at most; a larger photo runs alone.
        window_s: how long the oldest photo waits for others of its size, as long as `expected` says that some may come.
        expected: () -> number of photos that are being read.
        on_batch: called with the number of photos of each batch.
    """

    def __init__(self, segmenter, *, max_batch: int, max_megapixels: float, window_s: float, expected: Callable[[], int], on_batch: Callable[[int], None]):
        self._segmenter = segmenter
        self._max_batch = max_batch
        self._max_pixels = max_megapixels * 1e6
        self._kept_pixels = self._max_pixels
        self._window = window_s
        self._expected = expected
        self._on_batch = on_batch
        self._queue: collections.deque = collections.deque()
        self._large: _Large | None = None
        self._executor = ThreadPoolExecutor(1, "inference")

    def limit(self, run_pixels: int, kept_pixels: int) -> None:
        """Keep to so many pixels that run together; the memory of runs above `kept_pixels` is given back."""
        self._max_pixels = min(self._max_pixels, run_pixels)
        self._kept_pixels = kept_pixels

    def start(self) -> None:
        """Begin to serve; to be called in the running event loop."""
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def stop(self) -> None:
        """End; photos that still wait are dropped."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for item in (*self._queue, *([self._large.item] if self._large else ())):
            item.result.cancel()
        self._executor.shutdown(wait=False)

    def notify(self) -> None:
        """`expected` has changed."""
        self._changed.set()

    def waiting(self) -> int:
        """Photos that wait for their run."""
        return len(self._queue)

    async def submit(self, image: np.ndarray) -> Segmented:
        """Segment uint8 [H, W, 3]. Cancelling this takes the photo out of the queue, or stops a run that nobody waits for."""
        result = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(image, result, time.perf_counter()))
        self._changed.set()
        return await result

    async def in_thread(self, function: Callable, *arguments):
        """Call something in the thread of the runs, that is, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def _serve(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._drop_cancelled() or self._large is not None:
                if self._large is None:
                    await self._gather()
                batch = self._take()
                if batch and self._is_large(batch[0]):
                    self._begin(batch[0])
                elif batch:
                    await self._run(batch)
                if self._large is not None:
                    await self._step(self._large)

    def _drop_cancelled(self) -> int:
        while self._queue and self._queue[0].result.done():
            self._queue.popleft()
        return len(self._queue)

    def _is_large(self, item: _Waiting) -> bool:
        return self._segmenter.is_tiled(item.image.shape[0], item.image.shape[1])

    def _room(self, item: _Waiting) -> int:
        if self._is_large(item):
            return 1
        height, width = item.image.shape[:2]
        return max(1, min(self._max_batch, int(self._max_pixels // (height * width))))

    async def _gather(self) -> None:
        oldest = self._queue[0]
        room = self._room(oldest)
        while self._expected() and sum(item.image.shape == oldest.image.shape for item in self._queue) < room:
            remaining = oldest.arrived + self._window - time.perf_counter()
            if remaining <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except asyncio.TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """The oldest photo and those of its size; not a large one while another is under way."""
        batch: list[_Waiting] = []
        rest: collections.deque[_Waiting] = collections.deque()
        for item in self._queue:
            if item.result.done():
                continue
            if batch:
                chosen = item.image.shape == batch[0].image.shape and len(batch) < self._room(batch[0])
            else:
                chosen = self._large is None or not self._is_large(item)
            (batch if chosen else rest).append(item)
        self._queue = rest
        return batch

    def _begin(self, item: _Waiting) -> None:
        large = self._large = _Large(item, self._segmenter)

        def stop(_) -> None:
            if item.result.cancelled():
                large.cancellation.cancel()

        item.result.add_done_callback(stop)

    async def _step(self, large: _Large) -> None:
        result, mask = large.item.result, None
        try:
            if not result.done():
                mask = await self.in_thread(large.step)
        except Exception as error:  # the request that waits answers with it
            if not result.done():
                result.set_exception(error)
        if mask is not None and not result.done():
            self._on_batch(1)
            result.set_result(Segmented(mask, large.waited, large.took, 1))
        if result.done():
            self._large = None

    async def _run(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        pixels = sum(item.image.shape[0] * item.image.shape[1] for item in batch)
        cancellation = Cancellation(return_memory=pixels > self._kept_pixels)

        def stop_if_nobody_waits(_) -> None:
            if all(item.result.cancelled() for item in batch):
                cancellation.cancel()

        for item in batch:
            item.result.add_done_callback(stop_if_nobody_waits)
        try:
            masks = await self.in_thread(self._masks, [item.image for item in batch], cancellation)
        except Exception as error:  # the request that waits answers with it
            if len(batch) > 1:  # one photo's failure is not the others'
                for item in batch:
                    if not item.result.done():
                        await self._run([item])
            elif not batch[0].result.done():
                batch[0].result.set_exception(error)
            return
        self._on_batch(len(batch))
        took = time.perf_counter() - started
        for item, mask in zip(batch, masks):
            if not item.result.done():
                item.result.set_result(Segmented(mask, started - item.arrived, took, len(batch)))

    def _masks(self, images: list[np.ndarray], cancellation: Cancellation):
        if len(images) == 1:
            return [self._segmenter(images[0], cancellation)]
        return self._segmenter.batch(np.stack(images), cancellation)
