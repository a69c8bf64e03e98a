"""The web application: addresses and what answers them."""

from __future__ import annotations

import contextlib
from typing import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..segmenter import Segmenter
from .ascii_json import AsciiJSON
from .budget import Budget
from .open_inference import OpenInference
from .openapi import document
from .page import page_response
from .request import Endpoint, failure
from .segment import Segment
from .service import Service
from .settings import Settings


def create_app(segmenter: Segmenter, settings: Settings | None = None, *, on_budget: Callable[[Budget], None] = lambda budget: None) -> Starlette:
    """An ASGI application around a segmenter, for uvicorn or to be mounted in another application.

    `app.state.service` is the `Service`; `on_budget` is told how it divides memory. A mounting application must run the
    lifespan of this one. Its server bounds connections and the names in the header Host: see `command.serve`.
    """
    service = Service(segmenter, settings or Settings(), on_budget)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):
        await service.start()
        yield
        await service.stop()

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)

    async def page(request: Request) -> Response:
        return page_response(segmenter, service.settings)

    async def openapi(request: Request) -> Response:
        return AsciiJSON(document(service))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = failure(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    routes = [
        Route("/", page),
        Route("/openapi.json", openapi),
        Route("/segment", Endpoint(service, "/segment", Segment(service)), methods=["POST"]),
        Route("/metrics", metrics),
        *OpenInference(service).routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error})
    app.state.service = service
    return app
