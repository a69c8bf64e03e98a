"""How many requests, and how much memory for them, are in the service at once."""

from __future__ import annotations

import threading

from .failures import Busy


class Admission:
    """Lets requests in while there is room.

    Args:
        requests: at most this many at once.
        megabytes: bodies and decoded photos of all of them together.
    """

    def __init__(self, requests: int, megabytes: float):
        self._most_requests = requests
        self._most_bytes = int(megabytes * 1e6)
        self._lock = threading.Lock()
        self.requests = 0
        self.bytes = 0

    def enter(self) -> Ticket:
        """A context manager for one request.

        Raises:
            Busy: the queue is full.
        """
        with self._lock:
            if self.requests >= self._most_requests:
                raise Busy(f"{self.requests} requests are being served, the limit is {self._most_requests}; try again later")
            self.requests += 1
        return Ticket(self)

    def take(self, ticket: Ticket, amount: int) -> None:
        """Memory for one request; see `Ticket.reserve`."""
        with self._lock:
            if ticket.ended:
                raise Busy("the request has ended")
            if self.bytes + amount > self._most_bytes:
                raise Busy(f"the memory for requests is used up ({self._most_bytes / 1e6:g} MB); try again later")
            self.bytes += amount
            ticket.bytes += amount

    def leave(self, ticket: Ticket) -> None:
        """Give back a request's place and memory."""
        with self._lock:
            ticket.ended = True
            self.requests -= 1
            self.bytes -= ticket.bytes


class Ticket:
    """One request's place. Threads may share it.

    Attributes:
        bytes: reserved so far.
        ended: the request has been answered.
    """

    def __init__(self, admission: Admission):
        self._admission = admission
        self.bytes = 0
        self.ended = False

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_) -> None:
        self._admission.leave(self)

    def reserve(self, amount: int) -> None:
        """Take memory until the request ends.

        Raises:
            Busy: there is not that much left; or the request has ended meanwhile (a thread that was not told).
        """
        self._admission.take(self, amount)
