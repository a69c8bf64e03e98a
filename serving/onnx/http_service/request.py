"""The frame around every request that costs something: admission, limits, failures as JSON, metrics, delivery of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import traceback
from collections.abc import Awaitable
from typing import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .admission import Ticket
from .ascii_json import AsciiJSON
from .failures import BodyTooLarge, BodyTooSlow, Busy, TooSlow, UnsupportedMediaType, status_of
from .service import Service

_PIECE = 64 * 1024  # of an answer; the server below takes the next when the client has read
_COPIES = 2  # of a body: its parts, and the whole

log = logging.getLogger("tfwsss.serving")

Handler = Callable[[Request, Ticket, dict], Awaitable[Response]]


class Endpoint:
    """An ASGI application around `handle(request, ticket, timings)`.

    `timings` collects seconds by stage; they go out in the header Server-Timing, which browsers show. A request keeps
    memory for its answer until the client has read it, or for `Settings.write_limit_s`.
    """

    def __init__(self, service: Service, route: str, handle: Handler):
        self._service = service
        self._route = route
        self._handle = handle

    async def __call__(self, scope, receive, send) -> None:
        started = time.perf_counter()
        timings: dict = {}
        metrics = self._service.metrics
        with contextlib.ExitStack() as stack:
            tickets: list[Ticket] = []
            response = await self._answer(Request(scope, receive), stack, tickets, timings)
            took = time.perf_counter() - started
            metrics.requests.labels(self._route, str(response.status_code)).inc()
            metrics.seconds.labels(self._route).observe(took)
            stages = [(stage, seconds) for stage, seconds in timings.items() if stage != "batch"]
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Server-Timing"] = ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in [*stages, ("total", took)])
            await self._deliver(response, tickets[0] if tickets else None, send)

    async def _answer(self, request: Request, stack: contextlib.ExitStack, tickets: list[Ticket], timings: dict) -> Response:
        body = _Body(self._service, request)
        try:
            self._service.require_ready()
            ticket = stack.enter_context(self._service.admission.enter())
            tickets.append(ticket)
            return await _in_time(self._handle(body.limited(ticket), ticket, timings), body, self._service.settings.time_limit_s)
        except ClientDisconnect as error:
            _forget(error)
            return failure(499, "the client went away")
        except HTTPException as error:  # Starlette's, of a damaged form
            _forget(error)
            return failure(error.status_code, str(error.detail), close=not body.complete.is_set())
        except Exception as error:
            status = status_of(error)
            if status is None:
                log.exception("%s %s failed", request.method, request.url.path)
            _forget(error)
            if status is None:
                return failure(500, "internal error")
            return failure(status, str(error), close=not body.complete.is_set())

    async def _deliver(self, response: Response, ticket: Ticket | None, send) -> None:
        if ticket is not None:
            ticket.answered(len(response.body))
        if ticket is None or len(response.body) <= _PIECE:  # it fits into the connection's own buffer
            return await _send(response, send, lambda: None)
        sending, stalled = asyncio.ensure_future(_send(response, send, ticket.sent)), asyncio.ensure_future(ticket.stalled.wait())
        try:
            await asyncio.wait({sending, stalled}, timeout=self._service.settings.write_limit_s, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:  # the server closes the connection of an answer that is not complete
                log.warning("%s: the answer was given up, as the client does not read it", self._route)
        finally:
            sending.cancel()
            stalled.cancel()


async def _send(response: Response, send, sent: Callable[[], None]) -> None:
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    body = memoryview(response.body)
    for start in range(0, max(len(body), 1), _PIECE):
        await send({"type": "http.response.body", "body": bytes(body[start : start + _PIECE]), "more_body": start + _PIECE < len(body)})
        sent()


def _forget(error: BaseException | None) -> None:
    """Free what the functions that an exception passed through were working on; futures keep it alive in a circle."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


async def _in_time(answer: Awaitable[Response], body: _Body, seconds: float) -> Response:
    """The answer, unless time runs out or the client goes away first; its work is stopped then."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(body.client_left())
    try:
        await asyncio.wait({answering, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        if leaving.done():
            raise ClientDisconnect
        if body.complete.is_set():
            raise TooSlow(f"the masks were not ready within {seconds:g} s")
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s")
    finally:
        answering.cancel()
        leaving.cancel()


def failure(status: int, message: str, *, close: bool = False) -> AsciiJSON:
    """{"error": message}. `close` ends the connection, as the rest of an unread body makes it useless."""
    headers = {"Retry-After": "1"} if status == Busy.status else {}
    if close:
        headers["Connection"] = "close"
    return AsciiJSON({"error": message}, status, headers)


class _Body:
    """Watches a request's body arrive.

    Attributes:
        complete: set when all of it is there.
    """

    def __init__(self, service: Service, request: Request):
        self._most = min(int(service.settings.max_body_mb * 1e6), service.admission.bodies.size // _COPIES)
        self._request = request
        self._length = 0
        self.complete = asyncio.Event()

    def limited(self, ticket: Ticket) -> Request:
        """The same request; reading waits for memory first, and more than the limit of it raises `BodyTooLarge`.

        Raises:
            BodyTooLarge: its Content-Length is above the limit.
            UnsupportedMediaType: it is compressed.
        """
        headers = self._request.headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMediaType(f"Content-Encoding: found {encoding}, expected none: photos are compressed already")
        announced = headers.get("content-length", "")
        known = re.fullmatch("[0-9]{1,19}", announced) is not None
        if known and int(announced) > self._most:
            raise self._too_large()
        length = int(announced) if known else self._most
        admitted = False

        async def receive():
            nonlocal admitted
            if not admitted:
                await ticket.body(_COPIES * length)
                admitted = True
            message = await self._request.receive()
            if message["type"] == "http.request":
                self._length += len(message.get("body", b""))
                if self._length > self._most:
                    raise self._too_large()
                if not message.get("more_body", False):
                    self.complete.set()
            return message

        return Request(self._request.scope, receive)

    async def client_left(self) -> None:
        """Returns when the client closes the connection after its request; before that the reader of the body is told."""
        await self.complete.wait()
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is longer than the limit of {self._most / 1e6:g} MB")
