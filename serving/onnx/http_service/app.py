"""The web application: addresses and what answers them."""

from __future__ import annotations

import contextlib

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..segmenter import Segmenter
from .open_inference import OpenInference
from .page import page_response
from .request import endpoint, failure
from .segment import Segment
from .service import Service
from .settings import Settings


def create_app(segmenter: Segmenter, settings: Settings | None = None) -> Starlette:
    """An ASGI application around a segmenter, for uvicorn or to be mounted in another application.

    `app.state.service` is the `Service`. A mounting application must run the lifespan of this one.
    """
    service = Service(segmenter, settings or Settings())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):
        await service.start()
        yield
        await service.stop()

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)

    async def page(request: Request) -> Response:
        return page_response(segmenter, service.settings)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        response = failure(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    routes = [
        Route("/", page),
        Route("/segment", endpoint(service, "/segment", Segment(service)), methods=["POST"]),
        Route("/metrics", metrics),
        *OpenInference(service).routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error})
    app.state.service = service
    return app
