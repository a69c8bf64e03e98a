"""One call with retries under one deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay, wait_random_exponential

from .errors import DeadlineError, UnavailableError

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often and how long.

    Attributes:
        deadline: seconds for a call, all attempts and waits included.
        attempts: tries in all, of which only UnavailableError leads to the next. A prediction changes nothing on the
            server, so that it may be asked twice.
        first_wait, longest_wait: seconds; the n-th wait is drawn uniformly from 0 to ``first_wait * 2**n``, at most
            `longest_wait`, so that many clients do not come back at once.
    """

    deadline: float = 30.0
    attempts: int = 5
    first_wait: float = 0.1
    longest_wait: float = 2.0

    def __post_init__(self):
        if self.deadline <= 0 or self.attempts < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError(f"expected a positive deadline, at least one attempt and waits of 0 or more, found {self}")

    def call(self, attempt: Callable[[float], T]) -> T:
        """Call `attempt(seconds left)` until it succeeds.

        Raises:
            UnavailableError: that of the last attempt.
            DeadlineError: that of an attempt, or the time was up before the next.
        """
        end = time.monotonic() + self.deadline

        def once() -> T:
            left = end - time.monotonic()
            if left <= 0:
                raise DeadlineError(f"no answer within {self.deadline:g} s")
            return attempt(left)

        stop = stop_after_attempt(self.attempts) | stop_before_delay(self.deadline)
        wait = wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)
        return Retrying(stop=stop, wait=wait, retry=retry_if_exception_type(UnavailableError), reraise=True)(once)
