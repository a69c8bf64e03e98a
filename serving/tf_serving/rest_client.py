"""TensorFlow Serving over REST: JSON, with files in base64. For clients behind proxies that only know HTTP."""

from __future__ import annotations

import base64
import binascii
import io
import json
import time
from typing import Any

import numpy as np
import urllib3
from PIL import Image

from .client import SIGNATURES, Client
from .errors import (
    AnswerError,
    DeadlineError,
    ModelNotFoundError,
    RefusedError,
    ServerError,
    TooLargeError,
    UnavailableError,
)

_ERRORS = {
    400: RefusedError,
    404: ModelNotFoundError,
    408: DeadlineError,
    412: ModelNotFoundError,
    413: TooLargeError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineError,
}
_CHUNK = 1 << 16


class RestClient(Client):
    """Client over REST; keeps connections open, safe to share between threads.

    Arrays are sent as PNG files through the signature `serve_bytes`, which gives the same masks: as JSON numbers they would be
    ten times as large. `scores` has no such way. An answer that stops half-way may take twice the deadline to be given up.

    Args:
        address: "http://host:port" or "https://...", with a path if a proxy puts one before /v1.
        headers: sent with every request, for instance {"Authorization": "Bearer ..."}.
        Others: see `Client`.
    """

    def __init__(self, address: str, model: str = "segmenter", *, headers: dict[str, str] | None = None, **arguments):
        super().__init__(address.rstrip("/"), model, **arguments)
        self._pool = urllib3.PoolManager(maxsize=16, retries=False, headers={"Content-Type": "application/json", **(headers or {})})
        path = f"/v1/models/{model}"
        self._url = self.address + path + (f"/versions/{self.version}" if self.version is not None else f"/labels/{self.label}" if self.label is not None else "")

    def close(self) -> None:
        self._pool.clear()

    def segment(self, images) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3 or 0 in images.shape:
            return super().segment(images)  # says what is wrong
        masks = self.segment_files([_png(image) for image in (images if images.ndim == 4 else [images])])
        if any(mask.shape != images.shape[-3:-1] for mask in masks):
            raise AnswerError(f"{self.address}: masks of shapes {[mask.shape for mask in masks]} for images of shape {images.shape}")
        return np.stack(masks) if images.ndim == 4 else masks[0]

    def status(self) -> dict[int, str]:
        answer = self._send("GET", self._url)
        try:
            return {int(entry["version"]): str(entry["state"]) for entry in answer["model_version_status"]}
        except (KeyError, TypeError, ValueError):
            raise AnswerError(f"{self._url}: not a model status") from None

    def _predict(self, signature: str, value):
        input_name, output_name, kind = SIGNATURES[signature]
        sent = [{"b64": base64.b64encode(item).decode("ascii")} for item in value] if isinstance(value, list) else value.tolist()
        answer = self._send("POST", f"{self._url}:predict", {"signature_name": signature, "inputs": {input_name: sent}})
        # A signature with one output is answered without its name.
        outputs: Any = answer.get("outputs")
        outputs = outputs[output_name] if isinstance(outputs, dict) and output_name in outputs else outputs
        try:
            if kind is bytes:
                return [base64.b64decode(item["b64"], validate=True) for item in outputs]
            array = np.array(outputs, np.float64)
            if kind is np.uint8 and not ((array >= 0) & (array <= 255)).all():
                raise ValueError("values outside 0..255")
            return array.astype(kind)
        except (TypeError, KeyError, ValueError, binascii.Error) as error:
            raise AnswerError(f"{self._url}: {output_name}: cannot be read: {error}") from None

    def _send(self, method: str, url: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        if data is not None and len(data) > self.max_message_bytes:
            raise TooLargeError(f"{url}: the request has {len(data)} bytes, max_message_bytes is {self.max_message_bytes}")
        text = self.retry.call(lambda seconds: self._attempt(method, url, data, seconds))
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise AnswerError(f"{url}: the answer is not JSON: {error}") from None
        if not isinstance(answer, dict):
            raise AnswerError(f"{url}: the answer is no JSON object")
        return answer

    def _attempt(self, method: str, url: str, data: bytes | None, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        try:
            response = self._pool.request(method, url, body=data, timeout=urllib3.Timeout(total=seconds), preload_content=False, redirect=False)
            try:
                text = self._read(response, url, end)
            except BaseException:
                response.close()  # what is left of the answer must not meet the next request
                raise
            response.release_conn()
        except urllib3.exceptions.NewConnectionError as error:  # counts as a TimeoutError, which a refused connection is not
            raise UnavailableError(f"{url}: {error}") from None
        except urllib3.exceptions.TimeoutError:
            raise DeadlineError(f"{url}: no answer in time") from None
        except urllib3.exceptions.LocationValueError as error:
            raise ServerError(f"{url}: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise UnavailableError(f"{url}: {error}") from None
        if response.status == 200:
            return text
        raise _ERRORS.get(response.status, ServerError)(f"{url}: HTTP {response.status}: {_reason(text)}")

    def _read(self, response, url: str, end: float) -> bytes:
        parts, size = [], 0
        # Piece by piece, because a time limit of a socket counts from the last byte.
        while part := response.read1(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > self.max_message_bytes:
                raise TooLargeError(f"{url}: the answer has more than max_message_bytes, {self.max_message_bytes}")
            if time.monotonic() > end:
                raise DeadlineError(f"{url}: the answer was not complete in time")
        return b"".join(parts)


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _reason(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"])[:2000]
    except (ValueError, TypeError, KeyError):
        return text[:200].decode("utf-8", "replace")
