"""Photos as uint8 RGB arrays, read the way training reads them."""

import io
import warnings
from pathlib import Path

import numpy as np

from .errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")


def to_array(image, max_megapixels: float) -> np.ndarray:
    """Any accepted form of a photo as uint8 [H, W, 3], C-contiguous.

    Args:
        image: uint8 array [H, W, 3] RGB (taken as it is); a path; the bytes of an image file; a PIL image.
        max_megapixels: files and PIL images with more pixels are refused before decoding.

    Raises:
        ImageError: see `Segmenter`.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(f"image array: found {image.dtype} {image.shape}, expected uint8 [height, width, 3] RGB")
        return np.ascontiguousarray(image)
    name = str(image) if isinstance(image, (str, Path)) else "image"
    try:
        from PIL import Image
    except ImportError:
        raise ImageError(f"{name}: reading files needs Pillow; install it or pass uint8 arrays") from None
    if isinstance(image, Image.Image):
        return _convert(image, name, max_megapixels)
    if not isinstance(image, (str, Path, bytes, bytearray, memoryview)):
        raise ImageError(f"image: found {type(image).__name__}, expected a uint8 array, a path, bytes or a PIL image")
    source = Path(image) if isinstance(image, (str, Path)) else io.BytesIO(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our limit is checked below; damaged EXIF is not worth a warning
            with Image.open(source, formats=FORMATS) as picture:
                return _convert(picture, name, max_megapixels)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly every type
        raise ImageError(f"{name}: cannot be decoded: {str(error) or type(error).__name__}") from None


def _convert(picture, name: str, max_megapixels: float) -> np.ndarray:
    from PIL import Image, ImageOps

    if picture.width * picture.height > max_megapixels * 1e6:
        raise ImageError(f"{name}: {picture.width}x{picture.height} pixels, the limit is {max_megapixels:g} megapixels")
    if picture.width * picture.height == 0:
        raise ImageError(f"{name}: an image without pixels")
    if picture.format != "TIFF":  # Pillow turns a TIFF upright while decoding it
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ImageError(f"{name}: floating-point pixels, expected 8 or 16 bits a channel")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: grey values {values.min()}..{values.max()}, expected 0..65535")
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))
