"""Masks as files."""

import io

import numpy as np
from PIL import Image

from ..overlay import overlay

_FASTEST = 1  # zlib's level: three times as fast as the default, a third larger


def mask_png(mask: np.ndarray, palette: np.ndarray) -> bytes:
    """An indexed PNG: the pixel values are the labels [H, W], the colours those of the palette [L, 3]."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes())
    return _encoded(picture, "PNG", compress_level=_FASTEST)


def overlay_file(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, opacity: float, jpeg: bool) -> bytes:
    """The photo with the colours over it as a JPEG or PNG."""
    picture = Image.fromarray(overlay(image, mask, palette, opacity))
    return _encoded(picture, "JPEG", quality=90) if jpeg else _encoded(picture, "PNG", compress_level=_FASTEST)


def _encoded(picture: Image.Image, file_format: str, **arguments) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **arguments)
    return file.getvalue()
