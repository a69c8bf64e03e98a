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
            limited = body.limited(ticket)
            try:
                return await asyncio.wait_for(handle(limited, ticket, timings), service.settings.time_limit_s)
            except asyncio.TimeoutError:
                limit = f"{service.settings.time_limit_s:g} s"
                raise (TooSlow(f"the masks were not ready within {limit}") if body.complete else BodyTooSlow(f"the body did not arrive within {limit}")) from None
    except ClientDisconnect:
        return failure(499, "the client went away")
    except HTTPException as error:  # Starlette's, of a damaged form
        return failure(error.status_code, str(error.detail), close=not body.complete)
    except Exception as error:
        status = status_of(error)
        if status is None:
            log.exception("%s %s failed", request.method, request.url.path)
            return failure(500, "internal error")
        return failure(status, str(error), close=not body.complete)


def failure(status: int, message: str, *, close: bool = False) -> JSONResponse:
    """{"error": message}. `close` ends the connection, as the rest of an unread body makes it useless."""
    headers = {"Retry-After": "1"} if status == Busy.status else {}
    if close:
        headers["Connection"] = "close"
    return JSONResponse({"error": message}, status, headers)


class _Body:
    """Watches a request's body arrive.

    Attributes:
        complete: all of it is there.
    """

    def __init__(self, service: Service, request: Request):
        self._most = int(service.settings.max_body_mb * 1e6)
        self._request = request
        self._length = 0
        self.complete = False

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
                self.complete = not message.get("more_body", False)
            return message

        return Request(self._request.scope, receive)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is longer than the limit of {self._most / 1e6:g} MB")
