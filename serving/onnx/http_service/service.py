"""From a photo's bytes to its mask: reading, batching, running, writing, each in its own threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable

import numpy as np

from ..cancellation import Cancellation
from ..images import reading_cost
from ..mask_png import mask_png
from ..segmenter import Segmenter
from . import process_memory
from .admission import Admission, Ticket
from .batcher import Batcher
from .budget import Budget, divide
from .failures import Busy
from .metrics import Metrics
from .settings import Settings

BYTES_PER_PIXEL = 8  # of a photo that is segmented: its array, the array padded for tiles, the mask twice
_PROBE = 512  # side of the blank photo whose run is measured
_TRIM = 64e6  # bytes given back by requests until the C library is told to do the same

log = logging.getLogger("tfwsss.serving")


class Service:
    """One segmenter that many requests share.

    Attributes:
        ready: the warm-up is over and the service is not stopping.
    """

    def __init__(self, segmenter: Segmenter, settings: Settings, on_budget: Callable[[Budget], None] = lambda budget: None):
        self.segmenter = segmenter
        self.settings = settings
        self.ready = False
        self._on_budget = on_budget
        self.admission = Admission(settings.queue, settings.time_limit_s / 2, self._freed)
        self._reading = 0
        self._freed_bytes = 0
        self.batcher = Batcher(
            segmenter,
            max_batch=settings.max_batch,
            max_megapixels=settings.max_batch_megapixels,
            window_s=settings.window_ms / 1000,
            expected=lambda: self._reading,
            on_batch=lambda size: self.metrics.batches.observe(size),
        )
        self.metrics = Metrics(self)
        self._codec = ThreadPoolExecutor(settings.codec_threads, "codec")
        self._large_codec = ThreadPoolExecutor(1, "large codec")  # seconds for a photo: the others' threads are not for that

    async def start(self) -> None:
        """Begin to serve; becomes ready after the warm-up, which goes on in the background."""
        self.batcher.start()
        self._warming = asyncio.get_running_loop().create_task(self._warm_up())

    async def _warm_up(self) -> None:
        try:
            budget, seconds = await self.batcher.in_thread(self._prepare)
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(self._codec, self._write_blank) for _ in range(self.settings.codec_threads)))
        except Exception:
            log.exception("the warm-up failed; the service stays not ready")
            return
        log.info("memory: %d MB at most, runs of %.2f megapixels, %d MB for bodies, %d MB for work", *(share / 1e6 for share in (budget.limit, budget.run_pixels, budget.bodies, budget.work)))
        self._on_budget(budget)
        self.admission.set_pools(budget.bodies, budget.work)
        self.ready = True
        log.info("ready on %s after %.1f s of warm-up", self.segmenter.device, seconds)

    def _prepare(self) -> tuple[Budget, float]:
        """Measure a run, divide the memory, and run photos of the sizes to come; the shares, and the seconds of the latter."""
        segmenter, side = self.segmenter, min(_PROBE, self.segmenter.tile)
        small, probe = (np.zeros((1, edge, edge, 3), np.uint8) for edge in (min(64, side), side))
        segmenter.batch(small, Cancellation(return_memory=True))  # what is taken once is no part of the measure
        risen = process_memory.peak_above(lambda: segmenter.batch(probe, Cancellation(return_memory=True)))
        if risen is None:
            log.warning("memory_mb: the memory of this process cannot be read here; the limit is for all but the model, by estimates")
        process_memory.give_back()
        per_pixel = None if risen is None else risen / side**2
        budget = divide(self.settings.memory_mb * 1e6, process_memory.resident(), per_pixel, segmenter.tile**2, int(self.settings.max_batch_megapixels * 1e6))
        if budget.run_pixels < segmenter.tile**2:
            segmenter.set_tile(int(budget.run_pixels**0.5))
            if not segmenter.seamless:  # an approximation either way; with the usual overlap each pixel would run four times
                segmenter.set_tile(segmenter.tile, segmenter.tile // 8)
            log.warning("memory_mb: photos of more than %d pixels a side are cut into tiles of that size%s", segmenter.tile, "" if segmenter.seamless else ", which is an approximation")
        self.batcher.limit(budget.run_pixels, budget.kept_pixels)
        seconds = segmenter.warm_up(self.settings.warm_up)
        segmenter.batch(small, Cancellation(return_memory=True))
        process_memory.give_back()
        return budget, seconds

    def _write_blank(self) -> None:
        for height, width in self.settings.warm_up:
            self.segmenter.read(mask_png(np.zeros((height, width), np.uint8), self.segmenter.palette))

    async def stop(self) -> None:
        """End; requests that still wait are dropped."""
        self.ready = False
        self._warming.cancel()
        await asyncio.gather(self._warming, return_exceptions=True)
        await self.batcher.stop()
        for threads in (self._codec, self._large_codec):
            threads.shutdown(wait=False)

    def require_ready(self) -> None:
        """Raise `Busy` until the warm-up is over."""
        if not self.ready:
            raise Busy("the model is not ready yet; try again later")

    async def reserve(self, photos: list, ticket: Ticket, timings: dict, answer: float) -> None:
        """Take memory for all that is made of photos.

        Args:
            photos: the bytes of files, or uint8 arrays [H, W, 3].
            ticket, timings: of the request.
            answer: bytes per pixel that making the answer takes.

        Raises:
            ImageError: a file cannot be read or is too large.
            BodyTooLarge: together they need more memory than there is.
            Busy: the memory for requests is used up.
        """
        most = self.segmenter.max_megapixels

        def cost() -> int:
            found = ((photo.shape[0] * photo.shape[1], 0) if isinstance(photo, np.ndarray) else reading_cost(photo, most) for photo in photos)
            return sum(max(reading, int((BYTES_PER_PIXEL + answer) * pixels)) for pixels, reading in found)

        await ticket.work(await self.in_codec("read", ticket, timings, cost))

    async def read(self, data: bytes, ticket: Ticket, timings: dict) -> np.ndarray:
        """Decode a photo's file, for which memory is reserved: uint8 [H, W, 3].

        Raises:
            ImageError: it cannot be decoded or is too large.
        """
        self._reading += 1
        try:
            return await self.in_codec("read", ticket, timings, self.segmenter.read, data)
        finally:
            self._reading -= 1
            self.batcher.notify()

    async def segment(self, image: np.ndarray, timings: dict) -> np.ndarray:
        """Mask uint8 [H, W] of a photo uint8 [H, W, 3]."""
        found = await self.batcher.submit(image)
        self.metrics.images.inc()
        for stage, seconds in (("queue", found.queue_s), ("inference", found.inference_s)):
            self._observe(stage, seconds, timings)
        timings["batch"] = found.batch
        return found.mask

    async def in_codec(self, stage: str, ticket: Ticket, timings: dict, function: Callable, *arguments):
        """Call something of the stage `read` or `write` in a codec thread; the ticket keeps its memory until that ends."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()

        def ended(_: Future) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ticket.leave_thread)

        ticket.enter_thread()
        running = (self._large_codec if ticket.large else self._codec).submit(function, *arguments)
        running.add_done_callback(ended)
        try:
            return await asyncio.wrap_future(running)
        finally:
            self._observe(stage, time.perf_counter() - started, timings)

    def _freed(self, amount: int) -> None:
        self._freed_bytes += amount
        if self._freed_bytes > _TRIM and self.ready:
            self._freed_bytes = 0
            self._codec.submit(process_memory.give_back)

    def _observe(self, stage: str, seconds: float, timings: dict) -> None:
        self.metrics.stages.labels(stage).observe(seconds)
        timings[stage] = max(timings.get(stage, 0.0), seconds)  # photos of one request go side by side


