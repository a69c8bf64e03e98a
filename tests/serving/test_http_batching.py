"""Dynamic batching around the real runtime, with a gate that decides when a run may begin."""

import asyncio
import threading

import numpy as np
import pytest

from tfwsss_onnx import Cancelled, Segmenter
from tfwsss_onnx.http_service.batcher import Batcher


class Gated(Segmenter):
    """Waits for `gate` before each run, and keeps the sizes of the batches."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.gate = threading.Event()
        self.sizes = []
        self.fail_on = None

    def batch(self, images, cancellation=None):
        self.sizes.append(len(images))
        self.gate.wait(30)
        if self.fail_on is not None and (images == self.fail_on).all(axis=(1, 2, 3)).any():
            raise RuntimeError("no memory")
        return super().batch(images, cancellation)


@pytest.fixture
def gated(exported):
    return Gated(exported("local"), "cpu", threads=1)


@pytest.fixture(scope="module")
def plain(exported):
    return Segmenter(exported("local"), "cpu", threads=1)


def serve(segmenter, scenario, **options):
    """Run `scenario(batcher)` with a batcher around `segmenter`."""
    settings = {"max_batch": 4, "max_megapixels": 8, "window_s": 0.0, "expected": lambda: 0, "on_batch": lambda size: None, **options}

    async def run():
        batcher = Batcher(segmenter, **settings)
        batcher.start()
        try:
            return await scenario(batcher)
        finally:
            segmenter.gate.set()
            await batcher.stop()

    return asyncio.run(run())


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def test_those_that_wait_run_together_by_size_oldest_first(gated, plain, photo):
    photos = [photo(20, 24), *(photo(30, 24, seed) for seed in range(5)), photo(20, 24, 7), photo(30, 24, 8)]
    seen = []

    async def scenario(batcher):
        first = asyncio.ensure_future(batcher.submit(photos[0]))
        await until(lambda: gated.sizes == [1])
        others = [asyncio.ensure_future(batcher.submit(image)) for image in photos[1:]]
        await asyncio.sleep(0)
        assert batcher.waiting() == 7
        gated.gate.set()
        return await asyncio.gather(first, *others)

    found = serve(gated, scenario, on_batch=seen.append)
    assert gated.sizes == seen == [1, 4, 2, 1]
    assert [result.batch for result in found] == [1, 4, 4, 4, 4, 2, 1, 2]
    for result, image in zip(found, photos, strict=True):
        np.testing.assert_array_equal(result.mask, plain(image))


def test_others_run_between_the_tiles_of_a_large_photo(gated, plain, photo):
    gated.set_tile(64)
    plain_tiles = Segmenter.in_steps(gated, photo(64, 64))
    assert next(plain_tiles).shape == (64, 64)  # no tiles: the mask at once
    gated.sizes.clear()
    large, small = [photo(200, 200), photo(200, 150, 1)], [photo(20, 24, seed) for seed in range(6)]
    order = []

    async def scenario(batcher):
        def ask(name, image):
            task = asyncio.ensure_future(batcher.submit(image))
            task.add_done_callback(lambda _: order.append(name))
            return task

        first = ask("large", large[0])
        await until(lambda: gated.sizes == [1])
        others = [ask("large 2", large[1]), *(ask("small", image) for image in small[:5])]
        await asyncio.sleep(0)
        gated.gate.set()
        found = await asyncio.gather(first, *others, ask("small", small[5]))
        assert batcher.waiting() == 0
        return found

    found = serve(gated, scenario)
    assert order == ["small"] * 6 + ["large", "large 2"]
    assert gated.sizes[1:3] == [4, 1] and found[0].batch == 1  # after the first tile a batch of small ones, then the next tile
    gated.set_tile(64)
    for result, image in zip(found, [*large, *small], strict=True):
        np.testing.assert_array_equal(result.mask, gated(image))
    assert found[0].inference_s > 0


def test_a_large_photo_that_nobody_waits_for_ends_after_its_tile(gated, photo):
    gated.set_tile(64)

    async def scenario(batcher):
        task = asyncio.ensure_future(batcher.submit(photo(400, 400)))
        await until(lambda: gated.sizes == [1])
        task.cancel()
        gated.gate.set()
        await batcher.submit(photo(20, 24))
        failing = asyncio.ensure_future(batcher.submit(photo(400, 400, 2)))
        gated.fail_on = 7
        with pytest.raises(RuntimeError, match="no memory"):
            await asyncio.gather(batcher.submit(np.full((400, 400, 3), 7, np.uint8)), failing)
        await batcher.submit(photo(20, 24))

    serve(gated, scenario)


def test_a_batch_has_a_limit_of_pixels(gated, photo):
    async def scenario(batcher):
        gated.gate.set()
        await asyncio.gather(*(batcher.submit(photo(100, 100, seed)) for seed in range(5)))

    serve(gated, scenario, max_megapixels=0.025)
    assert gated.sizes == [2, 2, 1]


def test_the_window_waits_for_photos_that_are_being_read_only(gated, photo):
    reading = [1]

    async def scenario(batcher):
        gated.gate.set()
        first = asyncio.ensure_future(batcher.submit(photo(20, 24)))
        await asyncio.sleep(0.05)
        assert gated.sizes == []
        second = asyncio.ensure_future(batcher.submit(photo(20, 24, 1)))
        reading.clear()
        batcher.notify()
        await asyncio.gather(first, second)
        assert gated.sizes == [2]
        await batcher.submit(photo(20, 24))
        reading.append(1)
        await asyncio.wait_for(batcher.submit(photo(30, 24)), 20)  # nobody comes: the window ends

    serve(gated, scenario, window_s=3.0, expected=lambda: len(reading))
    assert gated.sizes == [2, 1, 1]


def test_one_photo_that_fails_does_not_fail_its_neighbours(gated, plain, photo):
    bad = np.full((20, 24, 3), 9, np.uint8)
    gated.fail_on = 9

    async def scenario(batcher):
        gated.gate.set()
        return await asyncio.gather(*(batcher.submit(image) for image in (photo(20, 24), bad, photo(20, 24, 1))), return_exceptions=True)

    first, failed, last = serve(gated, scenario)
    assert isinstance(failed, RuntimeError)
    np.testing.assert_array_equal(first.mask, plain(photo(20, 24)))
    np.testing.assert_array_equal(last.mask, plain(photo(20, 24, 1)))


def test_what_nobody_waits_for_is_dropped_or_stopped(gated, photo):
    stopped = []
    run = gated.batch

    def watching(images, cancellation=None):
        try:
            return run(images, cancellation)
        except Cancelled as error:
            stopped.append(error)
            raise

    gated.batch = watching

    async def scenario(batcher):
        running = asyncio.ensure_future(batcher.submit(photo(20, 24)))
        await until(lambda: gated.sizes == [1])
        waiting = [asyncio.ensure_future(batcher.submit(photo(30, 24, seed))) for seed in range(2)]
        await asyncio.sleep(0)
        running.cancel()
        waiting[0].cancel()
        await asyncio.sleep(0)
        gated.gate.set()
        return (await waiting[1]).batch

    assert serve(gated, scenario) == 1
    assert len(stopped) == 1 and gated.sizes == [1, 1]


def test_large_photos_run_alone_in_tiles(exported, photo):
    tiled = Gated(exported("local"), "cpu", threads=1, tile=160)
    tiled.gate.set()

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(photo(200, 264, seed)) for seed in range(2)))

    found = serve(tiled, scenario)
    assert [result.batch for result in found] == [1, 1] and set(tiled.sizes) == {1} and len(tiled.sizes) > 4
