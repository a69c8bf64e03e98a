"""How many requests, and how much memory for them, are in the service at once; what finds no room waits in line.

A request takes memory twice: for its body, before it is read, and for its work (decoded photos, masks, the answer), before any
of it is made. Each has a pool of its own: nothing that holds work waits for a body, so all that waits gets its turn.
"""

from __future__ import annotations

import asyncio
import collections
import time
from typing import Callable

from .failures import BodyTooLarge, Busy

_SMALL = 32  # what takes less than this part of a pool is small
_LARGE_SHARE = 0.75  # of a pool for all large ones together: small ones pass while they wait
_STALLED_S = 2.0  # an answer that waits so long for its reader gives way when others need its memory
_LOOK_S = 0.25


class Pool:
    """Bytes that are lent. Small requests do not stand behind large ones.

    Args:
        name: of what it is for, in messages.
        size: bytes.
        make_room: called while some wait.
    """

    def __init__(self, name: str, size: int, make_room: Callable[[], None] = lambda: None):
        self.name = name
        self.size = size
        self.taken = 0
        self._large = 0
        self._make_room = make_room
        self._lines: tuple[collections.deque, collections.deque] = (collections.deque(), collections.deque())

    async def take(self, amount: int, patience_s: float) -> None:
        """Take so many bytes, after those who came before.

        Raises:
            BodyTooLarge: the pool is smaller than that.
            Busy: there was no room within `patience_s` seconds.
        """
        if amount > self.size:
            raise BodyTooLarge(f"the {self.name} needs {amount / 1e6:.1f} MB of memory, the service has {self.size / 1e6:.1f} MB for it (--memory-mb)")
        line = self._lines[self.is_large(amount)]
        if not line and self._fits(amount):
            return self._lend(amount)
        turn = asyncio.get_running_loop().create_future()
        line.append((amount, turn))
        until = time.monotonic() + patience_s
        try:
            while not turn.done():
                if time.monotonic() >= until:
                    raise Busy(f"the memory for requests is used up ({self.size / 1e6:.0f} MB for each {self.name}); try again later")
                await asyncio.wait({turn}, timeout=min(_LOOK_S, max(0.0, until - time.monotonic())))
                if not turn.done():
                    self._make_room()
        except BaseException:
            if turn.done():
                self.give(amount)
            else:
                line.remove((amount, turn))
                self._next()
            raise

    def give(self, amount: int) -> None:
        """Give back what was taken in one piece."""
        self.taken -= amount
        if self.is_large(amount):
            self._large -= amount
        self._next()

    def exchange(self, taken: int, amount: int) -> None:
        """Keep `amount` of what was taken; it may be more, as what is there cannot wait."""
        self._lend(amount)
        self.give(taken)

    def is_large(self, amount: int) -> bool:
        """Whether so many bytes are a large part of the pool."""
        return amount * _SMALL > self.size

    def _fits(self, amount: int) -> bool:
        if self.is_large(amount) and self._large and self._large + amount > _LARGE_SHARE * self.size:
            return False
        return self.taken + amount <= self.size

    def _lend(self, amount: int) -> None:
        self.taken += amount
        if self.is_large(amount):
            self._large += amount

    def _next(self) -> None:
        for line in self._lines:
            while line and self._fits(line[0][0]):
                amount, turn = line.popleft()
                self._lend(amount)
                turn.set_result(None)


class Admission:
    """Lets requests in while there is room. To be used in the event loop only.

    Args:
        requests: at most this many at once, from their headers to their answer.
        patience_s: how long one waits for memory.
        on_freed: called with the bytes of work that were given back.
    """

    def __init__(self, requests: int, patience_s: float, on_freed: Callable[[int], None] = lambda amount: None):
        self._most_requests = requests
        self.patience_s = patience_s
        self.on_freed = on_freed
        self.requests = 0
        self._answers: dict[Ticket, float] = {}
        self.set_pools(0, 0)

    def set_pools(self, bodies: int, work: int) -> None:
        """Say how many bytes there are for bodies and for work; before that there are none."""
        self.bodies = Pool("body", bodies)
        self.work = Pool("work", work, self._drop_stalled)

    @property
    def bytes(self) -> int:
        """Memory that is lent to requests."""
        return self.bodies.taken + self.work.taken

    def enter(self) -> Ticket:
        """A context manager for one request.

        Raises:
            Busy: the queue is full.
        """
        if self.requests >= self._most_requests:
            raise Busy(f"{self.requests} requests are being served, the limit is {self._most_requests}; try again later")
        self.requests += 1
        return Ticket(self)

    def progress(self, ticket: Ticket) -> None:
        """A part of the ticket's answer has been taken by its reader."""
        self._answers[ticket] = time.monotonic()

    def forget(self, ticket: Ticket) -> None:
        """The ticket has no answer under way."""
        self._answers.pop(ticket, None)

    def _drop_stalled(self) -> None:
        """End the answer that has waited longest for its reader."""
        if self._answers:
            ticket, since = min(self._answers.items(), key=lambda entry: entry[1])
            if time.monotonic() - since > _STALLED_S:
                self.forget(ticket)
                ticket.stalled.set()


class Ticket:
    """One request's place and memory. Threads that work for it keep its memory until they are done with it.

    Attributes:
        stalled: its answer is to be given up, as nobody reads it and others need its memory.
        large: its work takes so much memory that small ones do not wait behind it.
    """

    def __init__(self, admission: Admission):
        self._admission = admission
        self._taken: list[tuple[Pool, int]] = []
        self._threads = 0
        self._placed = True
        self._ended = False
        self.stalled = asyncio.Event()
        self.large = False

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_) -> None:
        self._admission.forget(self)
        self._leave_place()
        self._ended = True
        self._give_all()

    async def body(self, amount: int) -> None:
        """Take memory for the body.

        Raises:
            BodyTooLarge, Busy: as `Pool.take`.
        """
        await self._take(self._admission.bodies, amount)

    async def work(self, amount: int) -> int:
        """Take memory for work; what it returns is to be given to `done`, or is given back at the end.

        Raises:
            BodyTooLarge, Busy: as `Pool.take`.
        """
        await self._take(self._admission.work, amount)
        self.large = self.large or self._admission.work.is_large(amount)
        return amount

    def done(self, amount: int) -> None:
        """Give back what `work` took in one piece."""
        self._taken.remove((self._admission.work, amount))
        self._admission.work.give(amount)

    def answered(self, length: int) -> None:
        """The answer of so many bytes is all that is left of the request."""
        self._leave_place()
        if self._threads:
            return  # the rest follows at the end
        work = self._admission.work
        work.exchange(0, length)
        before, self._taken = self._taken, [(work, length)]
        self._give(before)
        self._admission.progress(self)

    def sent(self) -> None:
        """Another part of the answer has found its reader."""
        self._admission.progress(self)

    def enter_thread(self) -> None:
        """A thread begins to work for the request."""
        self._threads += 1

    def leave_thread(self) -> None:
        """A thread has ended its work for the request."""
        self._threads -= 1
        self._give_all()

    async def _take(self, pool: Pool, amount: int) -> None:
        await pool.take(amount, self._admission.patience_s)
        self._taken.append((pool, amount))

    def _leave_place(self) -> None:
        if self._placed:
            self._placed = False
            self._admission.requests -= 1

    def _give_all(self) -> None:
        if self._ended and not self._threads:
            before, self._taken = self._taken, []
            self._give(before)

    def _give(self, taken: list[tuple[Pool, int]]) -> None:
        for pool, amount in taken:
            pool.give(amount)
        self._admission.on_freed(sum(amount for _, amount in taken))
