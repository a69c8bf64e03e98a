"""Photos with their masks as files."""

import io

import numpy as np
from PIL import Image

from ..overlay import overlay


def overlay_file(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, opacity: float, jpeg: bool) -> bytes:
    """The photo with the colours over it as a JPEG or PNG."""
    picture = Image.fromarray(overlay(image, mask, palette, opacity))
    file = io.BytesIO()
    if jpeg:
        picture.save(file, "JPEG", quality=90)
    else:
        picture.save(file, "PNG", compress_level=1)  # the fastest
    return file.getvalue()
