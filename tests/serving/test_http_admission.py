"""Places and memory of requests: never more than allowed, in turn, all given back."""

import asyncio
import random
import sys

import pytest

from tfwsss_onnx.http_service.admission import Admission, Pool
from tfwsss_onnx.http_service.failures import BodyTooLarge, Busy


def admission(requests: int = 2, patience_s: float = 0.05, **options) -> Admission:
    found = Admission(requests, patience_s, **options)
    found.set_pools(1_000_000, 1_000_000)
    return found


def test_requests_and_memory_have_limits():
    async def scenario():
        service = admission()
        with service.enter() as first:
            await first.work(600_000)
            with service.enter() as second:
                with pytest.raises(Busy, match="2 requests"):
                    service.enter()
                with pytest.raises(Busy, match="memory"):
                    await second.work(500_000)
                with pytest.raises(BodyTooLarge, match="2.0 MB of memory, the service has 1.0 MB"):
                    await second.work(2_000_000)
                await second.body(500_000)
            assert service.bytes == 600_000
        assert (service.requests, service.bytes) == (0, 0)

    asyncio.run(scenario())


def test_what_waits_gets_its_turn_and_small_ones_pass_large_ones():
    async def scenario():
        pool, order = Pool("work", 1000), []

        async def use(name, amount):
            await pool.take(amount, 5)
            order.append(name)

        await pool.take(700, 5)
        waiting = [asyncio.ensure_future(use(name, amount)) for name, amount in (("large 1", 600), ("large 2", 300), ("small", 20))]
        await asyncio.sleep(0.01)
        assert order == ["small"]
        pool.give(700)
        await waiting[0]
        assert order == ["small", "large 1"]  # the second would leave too little for small ones
        pool.give(600)
        await asyncio.gather(*waiting)
        assert order == ["small", "large 1", "large 2"] and pool.taken == 320

    asyncio.run(scenario())


def test_one_that_stops_waiting_leaves_the_line():
    async def scenario():
        pool = Pool("work", 1000)
        await pool.take(700, 5)
        first, second = (asyncio.ensure_future(pool.take(amount, 5)) for amount in (900, 250))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        pool.give(700)
        await second
        assert pool.taken == 250

    asyncio.run(scenario())


def test_random_requests_never_take_more_than_there_is_and_all_ends():
    async def scenario():
        generator, pool, most = random.Random(0), Pool("work", 1000), 0

        async def use():
            nonlocal most
            amount = generator.randint(1, 1000)
            try:
                await asyncio.wait_for(pool.take(amount, 5), generator.choice((0.001, 5)))
            except TimeoutError:
                return
            most = max(most, pool.taken)
            await asyncio.sleep(generator.random() * 0.002)
            pool.give(amount)

        await asyncio.wait_for(asyncio.gather(*(use() for _ in range(400))), 60)
        assert pool.taken == 0 and 500 < most <= 1000

    asyncio.run(scenario())


def test_a_thread_that_goes_on_after_its_request_keeps_the_memory():
    async def scenario():
        service = admission()
        with service.enter() as ticket:
            await ticket.work(1000)
            ticket.enter_thread()
        assert (service.requests, service.bytes) == (0, 1000)
        ticket.leave_thread()
        assert service.bytes == 0

    asyncio.run(scenario())


def test_an_answer_counts_until_it_is_sent_and_gives_way_when_nobody_reads_it(monkeypatch):
    monkeypatch.setattr(sys.modules[Admission.__module__], "_STALLED_S", 0.05)

    async def scenario():
        freed = []
        service = admission(requests=1, patience_s=5, on_freed=freed.append)
        with service.enter() as ticket:
            await ticket.body(300_000)
            await ticket.work(900_000)
            ticket.answered(400_000)
            assert (service.requests, service.bytes, freed) == (0, 400_000, [1_200_000])
            with service.enter() as other:  # its place is free, its memory is not
                waiting = asyncio.ensure_future(other.work(700_000))
                await asyncio.wait_for(ticket.stalled.wait(), 5)
                ticket.__exit__(None, None, None)
                await waiting
        assert service.bytes == 0

    asyncio.run(scenario())
