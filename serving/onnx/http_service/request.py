"""The frame around every request that costs something: admission, limits, failures as JSON, metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable
from typing import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from .admission import Ticket
from .failures import BodyTooLarge, BodyTooSlow, Busy, TooSlow, UnsupportedMediaType, status_of
from .service import Service

log = logging.getLogger("tfwsss.serving")

Handler = Callable[[Request, Ticket, dict], Awaitable[Response]]


def endpoint(service: Service, route: str, handle: Handler):
    """A Starlette endpoint around `handle(request, ticket, timings)`.

    `timings` collects seconds by stage; they go out in the header Server-Timing, which browsers show.
    """

    async def run(request: Request) -> Response:
        started = time.perf_counter()
        timings: dict = {}
        response = await _answer(service, request, handle, timings)
        took = time.perf_counter() - started
        service.metrics.requests.labels(route, str(response.status_code)).inc()
        service.metrics.seconds.labels(route).observe(took)
        stages = [(stage, seconds) for stage, seconds in timings.items() if stage != "batch"]
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server-Timing"] = ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in [*stages, ("total", took)])
        return response

    return run


async def _answer(service: Service, request: Request, handle: Handler, timings: dict) -> Response:
    body = _Body(service, request)
    try:
        service.require_ready()
        with service.admission.enter() as ticket:
            return await _in_time(handle(body.limited(ticket), ticket, timings), body, service.settings.time_limit_s)
    except ClientDisconnect:
        return failure(499, "the client went away")
    except HTTPException as error:  # Starlette's, of a damaged form
        return failure(error.status_code, str(error.detail), close=not body.complete.is_set())
    except Exception as error:
        status = status_of(error)
        if status is None:
            log.exception("%s %s failed", request.method, request.url.path)
            return failure(500, "internal error")
        return failure(status, str(error), close=not body.complete.is_set())


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


def failure(status: int, message: str, *, close: bool = False) -> JSONResponse:
    """{"error": message}. `close` ends the connection, as the rest of an unread body makes it useless."""
    headers = {"Retry-After": "1"} if status == Busy.status else {}
    if close:
        headers["Connection"] = "close"
    return JSONResponse({"error": message}, status, headers)


class _Body:
    """Watches a request's body arrive.

    Attributes:
        complete: set when all of it is there.
    """

    def __init__(self, service: Service, request: Request):
        self._most = int(service.settings.max_body_mb * 1e6)
        self._request = request
        self._length = 0
        self.complete = asyncio.Event()

    def limited(self, ticket: Ticket) -> Request:
        """The same request; reading more than the limit of it raises `BodyTooLarge`.

        Raises:
            BodyTooLarge: its Content-Length is above the limit.
            UnsupportedMediaType: it is compressed.
        """
        headers = self._request.headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMediaType(f"Content-Encoding: found {encoding}, expected none: photos are compressed already")
        announced = headers.get("content-length", "")
        if re.fullmatch("[0-9]{1,19}", announced) and int(announced) > self._most:
            raise self._too_large()

        async def receive():
            message = await self._request.receive()
            if message["type"] == "http.request":
                self._length += len(message.get("body", b""))
                if self._length > self._most:
                    raise self._too_large()
                ticket.reserve(len(message.get("body", b"")))
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
