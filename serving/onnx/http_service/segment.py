"""POST /segment: a photo in, its mask or overlay out."""

from __future__ import annotations

import base64

import numpy as np
from python_multipart.exceptions import FormParserError
from starlette.requests import Request
from starlette.responses import Response

from ..mask_png import mask_png
from .admission import Ticket
from .ascii_json import AsciiJSON
from .failures import RequestError, UnsupportedMediaType
from .pictures import overlay_file
from .service import Service

OUTPUTS = ("mask", "overlay", "json")
_ANSWER = {"mask": 4, "overlay": 18, "json": 14}  # bytes per pixel that making the answer takes at its peak


class Segment:
    """The handler.

    Body: an image file as it is, or multipart/form-data with one file. Query: `output` is `mask` (indexed PNG, the
    default), `overlay` (PNG, or JPEG if the client accepts image/jpeg and not image/png; `opacity` 0..1) or `json`.
    Without `output` a client that accepts JSON and no image gets JSON.
    """

    def __init__(self, service: Service):
        self._service = service

    async def __call__(self, request: Request, ticket: Ticket, timings: dict) -> Response:
        output, opacity = _output(request), _opacity(request)
        data = await _photo(request)
        service = self._service
        await service.reserve([data], ticket, timings, _ANSWER[output])
        image = await service.read(data, ticket, timings)
        mask = await service.segment(image, timings)
        palette = service.segmenter.palette
        if output == "overlay":
            accepted = request.headers.get("accept", "")
            jpeg = "image/jpeg" in accepted and "image/png" not in accepted
            body = await service.in_codec("write", ticket, timings, overlay_file, image, mask, palette, opacity, jpeg)
            return Response(body, media_type="image/jpeg" if jpeg else "image/png")
        body = await service.in_codec("write", ticket, timings, mask_png, mask, palette)
        if output == "mask":
            return Response(body, media_type="image/png")
        facts = await service.in_codec("write", ticket, timings, self._facts, mask, body, dict(timings))
        return AsciiJSON(facts)

    def _facts(self, mask: np.ndarray, png: bytes, timings: dict) -> dict:
        segmenter = self._service.segmenter
        counts = np.bincount(mask.ravel(), minlength=len(segmenter.labels))
        legend = [
            {"label": int(label), "name": segmenter.labels[label], "color": "#" + segmenter.palette[label].tobytes().hex(), "share": float(counts[label] / mask.size)}
            for label in np.flatnonzero(counts)
        ]
        return {
            "width": mask.shape[1],
            "height": mask.shape[0],
            "classes": sorted(legend, key=lambda entry: -entry["share"]),
            "mask_png": base64.b64encode(png).decode(),
            "timings_ms": {stage: round(1000 * seconds, 3) for stage, seconds in timings.items() if stage != "batch"},
            "batch": timings["batch"],
        }


def _output(request: Request) -> str:
    accepted = request.headers.get("accept", "")
    wants_json = "application/json" in accepted and "image/" not in accepted
    output = request.query_params.get("output", "json" if wants_json else "mask")
    if output not in OUTPUTS:
        raise RequestError(f"output: found {output!r}, expected one of {', '.join(OUTPUTS)}")
    return output


def _opacity(request: Request) -> float:
    text = request.query_params.get("opacity", "0.5")
    try:
        opacity = float(text)
    except ValueError:
        opacity = -1.0
    if not 0 <= opacity <= 1:
        raise RequestError(f"opacity: found {text!r}, expected a number from 0 to 1")
    return opacity


async def _photo(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            async with request.form(max_files=1, max_fields=8) as form:
                files = [value for value in form.values() if not isinstance(value, str)]
                if not files:
                    raise RequestError("multipart/form-data: found no file, expected one")
                return await files[0].read()
        except FormParserError:  # older releases of Starlette let it through
            raise RequestError("multipart/form-data: not readable") from None
    if kind.startswith("text/") or kind == "application/json":
        raise UnsupportedMediaType(f"Content-Type: found {kind}, expected image/*, application/octet-stream or multipart/form-data")
    return await request.body()
