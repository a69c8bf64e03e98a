"""The Open Inference Protocol (KServe V2) over REST: https://github.com/kserve/open-inference-protocol."""

from __future__ import annotations

import asyncio

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import __version__
from ..mask_png import mask_png
from .admission import Ticket
from .ascii_json import AsciiJSON
from .failures import RequestError, UnknownModel
from .request import Endpoint, failure
from .service import Service
from .tensors import InferRequest, parse_request, parsing_cost, render_response

# Bytes per pixel that making an output takes at its peak, by its name and whether it goes out in binary.
_ANSWER = {("mask", True): 4, ("mask", False): 14, ("mask_png", True): 6, ("mask_png", False): 9}


class OpenInference:
    """Handlers of the protocol.

    The model takes one of two inputs: `images` UINT8 [B, H, W, 3], or `image_bytes` BYTES [B] (JPEG, PNG, WEBP, BMP, TIFF or
    GIF files of any sizes). Its outputs are `mask` UINT8 [B, H, W] (the default for `images`) and `mask_png` BYTES [B] (indexed
    PNG files, the default for `image_bytes`).
    """

    def __init__(self, service: Service):
        self._service = service
        self._settings = service.settings

    def routes(self) -> list[Route]:
        """All addresses below /v2; a version in them is optional."""
        infer = Endpoint(self._service, "/v2/models/{model}/infer", self.infer)
        found = [Route("/v2", self.server), Route("/v2/health/live", self.live), Route("/v2/health/ready", self.ready)]
        for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found.append(Route(prefix, self.model))
            found.append(Route(prefix + "/ready", self.model_ready))
            found.append(Route(prefix + "/infer", infer, methods=["POST"]))
        return found

    async def server(self, request: Request) -> Response:
        return AsciiJSON({"name": "tfwsss", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        return AsciiJSON({"live": True})

    async def ready(self, request: Request) -> Response:
        return AsciiJSON({"ready": self._service.ready}, 200 if self._service.ready else 503)

    async def model_ready(self, request: Request) -> Response:
        try:
            self._check_model(request)
        except UnknownModel as error:
            return failure(error.status, str(error))
        return AsciiJSON({"name": self._settings.name, "ready": self._service.ready}, 200 if self._service.ready else 503)

    async def model(self, request: Request) -> Response:
        try:
            self._check_model(request)
        except UnknownModel as error:
            return failure(error.status, str(error))
        return AsciiJSON(
            {
                "name": self._settings.name,
                "versions": [self._settings.version],
                "platform": "onnxruntime_onnx",
                "inputs": [
                    {"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3], "parameters": {"optional": True}},
                    {"name": "image_bytes", "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}},
                ],
                "outputs": [{"name": "mask", "datatype": "UINT8", "shape": [-1, -1, -1]}, {"name": "mask_png", "datatype": "BYTES", "shape": [-1]}],
                "parameters": {"labels": list(self._service.segmenter.labels)},
            }
        )

    def _check_model(self, request: Request) -> None:
        name, version = request.path_params["model"], request.path_params.get("version", self._settings.version)
        if (name, version) != (self._settings.name, self._settings.version):
            raise UnknownModel(f"model {name!r} version {version!r}: here is {self._settings.name!r} version {self._settings.version!r}")

    async def infer(self, request: Request, ticket: Ticket, timings: dict) -> Response:
        self._check_model(request)
        body = await request.body()
        parsed = await self._parsed(body, request.headers.get("inference-header-content-length"), ticket, timings)
        photos: list = list((parsed.files or ()) if parsed.images is None else parsed.images)
        await self._service.reserve(photos, ticket, timings, sum(_ANSWER[output] for output in parsed.outputs))
        masks = await self._masks(photos, ticket, timings)
        content, header_length = await self._service.in_codec("write", ticket, timings, self._render, parsed, masks)
        if header_length is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={"Inference-Header-Content-Length": str(header_length)})

    async def _parsed(self, body: bytes, header_length: str | None, ticket: Ticket, timings: dict) -> InferRequest:
        memory = await ticket.work(parsing_cost(body, header_length))
        try:
            return await self._service.in_codec("read", ticket, timings, self._parse, body, header_length)
        finally:
            ticket.done(memory)

    def _parse(self, body: bytes, header_length: str | None) -> InferRequest:
        return parse_request(
            body,
            header_length,
            max_json=int(self._settings.max_json_mb * 1e6),
            max_images=self._settings.max_images,
            max_pixels=self._service.segmenter.max_megapixels * 1e6,
        )

    async def _masks(self, photos: list, ticket: Ticket, timings: dict) -> list[np.ndarray]:
        async def one(image) -> np.ndarray:
            if not isinstance(image, np.ndarray):
                image = await self._service.read(image, ticket, timings)
            return await self._service.segment(image, timings)

        tasks = [asyncio.ensure_future(one(image)) for image in photos]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the first failure ends the others
                task.cancel()

    def _render(self, parsed: InferRequest, masks: list[np.ndarray]) -> tuple[bytes, int | None]:
        outputs: list[tuple[str, np.ndarray | list[bytes], bool]] = []
        for name, binary in parsed.outputs:
            if name == "mask_png":
                outputs.append((name, [mask_png(mask, self._service.segmenter.palette) for mask in masks], binary))
                continue
            if len({mask.shape for mask in masks}) > 1:
                raise RequestError("outputs: the photos have different sizes; ask for mask_png")
            outputs.append((name, np.stack(masks), binary))
        return render_response(self._settings.name, self._settings.version, parsed.id, outputs)
