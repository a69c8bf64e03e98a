"""From a photo's bytes to its mask: reading, batching, running, writing, each in its own threads."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np

from ..images import announced_size
from ..segmenter import Segmenter
from .admission import Admission, Ticket
from .batcher import Batcher
from .failures import Busy
from .metrics import Metrics
from .pictures import mask_png
from .settings import Settings

_BYTES_PER_PIXEL = 10  # of a photo while it is read: the decoder's picture, its conversion and the array

log = logging.getLogger("tfwsss.serving")


class Service:
    """One segmenter that many requests share.

    Attributes:
        ready: the warm-up is over and the service is not stopping.
    """

    def __init__(self, segmenter: Segmenter, settings: Settings):
        self.segmenter = segmenter
        self.settings = settings
        self.ready = False
        self.admission = Admission(settings.queue, settings.memory_mb)
        self._reading = 0
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

    async def start(self) -> None:
        """Begin to serve; becomes ready after the warm-up, which goes on in the background."""
        self.batcher.start()
        self._warming = asyncio.get_running_loop().create_task(self._warm_up())

    async def _warm_up(self) -> None:
        try:
            seconds = await self.batcher.in_thread(self.segmenter.warm_up, self.settings.warm_up)
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(self._codec, self._write_blank) for _ in range(self.settings.codec_threads)))
        except Exception:
            log.exception("the warm-up failed; the service stays not ready")
            return
        self.ready = True
        log.info("ready on %s after %.1f s of warm-up", self.segmenter.device, seconds)

    def _write_blank(self) -> None:
        for height, width in self.settings.warm_up:
            self.segmenter.read(mask_png(np.zeros((height, width), np.uint8), self.segmenter.palette))

    async def stop(self) -> None:
        """End; requests that still wait are dropped."""
        self.ready = False
        self._warming.cancel()
        await asyncio.gather(self._warming, return_exceptions=True)
        await self.batcher.stop()
        self._codec.shutdown(wait=False)

    def require_ready(self) -> None:
        """Raise `Busy` until the warm-up is over."""
        if not self.ready:
            raise Busy("the model is not ready yet; try again later")

    async def read(self, data: bytes, ticket: Ticket, timings: dict) -> np.ndarray:
        """Decode a photo's file: uint8 [H, W, 3].

        Raises:
            ImageError: it cannot be decoded or is too large.
            Busy: the memory for requests is used up.
        """

        def decode() -> np.ndarray:
            height, width = announced_size(data, self.segmenter.max_megapixels)
            ticket.reserve(_BYTES_PER_PIXEL * height * width)
            return self.segmenter.read(data)

        self._reading += 1
        try:
            return await self.in_codec("read", timings, decode)
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

    async def in_codec(self, stage: str, timings: dict, function: Callable, *arguments):
        """Call something of the stage `read` or `write` in a codec thread."""
        started = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._codec, function, *arguments)
        finally:
            self._observe(stage, time.perf_counter() - started, timings)

    def _observe(self, stage: str, seconds: float, timings: dict) -> None:
        self.metrics.stages.labels(stage).observe(seconds)
        timings[stage] = max(timings.get(stage, 0.0), seconds)  # photos of one request go side by side
