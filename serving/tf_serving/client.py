"""What a client does, whatever the transport: checks arguments, names the signature, checks and decodes the answer."""

from __future__ import annotations

import abc
import io
import warnings
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import AnswerError, DeadlineError, InputError, ModelNotFoundError, UnavailableError
from .retry import Retry

# Signature -> (input, output, type of the output's values); bytes: a list of byte strings.
SIGNATURES = {
    "serving_default": ("images", "mask", np.uint8),
    "scores": ("images", "scores", np.float32),
    "serve_bytes": ("image_bytes", "mask_png_bytes", bytes),
}
MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Client(abc.ABC):
    """Base of GrpcClient and RestClient.

    Args:
        address: where the server is, see the subclasses.
        model: its name there.
        version, label: which version answers ("stable", "canary"); at most one of the two, neither: the newest.
        retry: deadline of a call, attempts and waits.
        max_message_bytes: larger requests are not sent and larger answers not taken.

    Raises:
        ValueError: both `version` and `label`.
    """

    def __init__(self, address: str, model: str = "segmenter", *, version: int | None = None, label: str | None = None, retry: Retry | None = None, max_message_bytes: int = MAX_MESSAGE_BYTES):
        if version is not None and label is not None:
            raise ValueError("version, label: expected at most one of the two")
        self.address, self.model, self.version, self.label = address, model, version, label
        self.retry = retry or Retry()
        self.max_message_bytes = max_message_bytes

    def segment(self, images) -> np.ndarray:
        """Masks of photos of one size.

        Args:
            images: uint8 [H, W, 3] or [B, H, W, 3], RGB.

        Returns:
            uint8 [H, W] or [B, H, W]; 0 is background.

        Raises:
            TfServingError: see errors.py.
        """
        images = np.asarray(images)
        batch = _batch(images)
        mask = self._predict("serving_default", batch)
        if mask.shape != batch.shape[:3]:
            raise AnswerError(f"{self.address}: mask of shape {mask.shape} for images of shape {batch.shape}")
        return mask if images.ndim == 4 else mask[0]

    def scores(self, images) -> np.ndarray:
        """Class probabilities: as `segment`, float32 [..., labels]. They are 4 bytes a label and pixel: mind the limits."""
        images = np.asarray(images)
        batch = _batch(images)
        scores = self._predict("scores", batch)
        if scores.ndim != 4 or scores.shape[:3] != batch.shape[:3]:
            raise AnswerError(f"{self.address}: scores of shape {scores.shape} for images of shape {batch.shape}")
        return scores if images.ndim == 4 else scores[0]

    def segment_files(self, files) -> list[np.ndarray]:
        """Masks of JPEG or PNG files, decoded by the server: uint8 [H, W] each, as large as the upright photo.

        Args:
            files: paths or bytes.

        Raises:
            TfServingError: see errors.py; one bad file refuses them all.
        """
        return [_mask_of_png(png, f"{self.address}: mask {index}") for index, png in enumerate(self.segment_files_png(files))]

    def segment_files_png(self, files) -> list[bytes]:
        """As `segment_files`, the masks as the grey PNG files that the server sent."""
        encoded = [_bytes_of(file, index) for index, file in enumerate(files)]
        answers = self._predict("serve_bytes", encoded)
        if len(answers) != len(encoded):
            raise AnswerError(f"{self.address}: {len(answers)} masks for {len(encoded)} files")
        return answers

    def is_ready(self) -> bool:
        """Whether a version that would answer is loaded; no when the server cannot be reached or does not know the model."""
        try:
            return "AVAILABLE" in self.status().values()
        except (UnavailableError, DeadlineError, ModelNotFoundError):
            return False

    @abc.abstractmethod
    def status(self) -> dict[int, str]:
        """State of the model's versions ("LOADING", "AVAILABLE", ...)."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abc.abstractmethod
    def _predict(self, signature: str, value):
        """Array or list of bytes -> array or list of bytes of the signature's only output."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _batch(images: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3 or 0 in images.shape:
        raise InputError(f"images: found {images.dtype} {images.shape}, expected uint8 [H, W, 3] or [B, H, W, 3]")
    return images if images.ndim == 4 else images[np.newaxis]


def _bytes_of(file, index: int) -> bytes:
    if isinstance(file, (bytes, bytearray, memoryview)):
        return bytes(file)
    if not isinstance(file, (str, PathLike)):
        raise InputError(f"files[{index}]: expected a path or bytes, found {type(file).__name__}")
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _mask_of_png(png: bytes, name: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
                mask = np.asarray(picture)
    except Exception as error:  # damaged files make Pillow raise nearly every type
        raise AnswerError(f"{name}: not a readable PNG: {error}") from None
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise AnswerError(f"{name}: found a PNG of {mask.dtype} {mask.shape}, expected grey 8-bit")
    return mask
