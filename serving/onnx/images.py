"""Photos as uint8 RGB arrays, read the way training reads them.

`tfwsss/data/image.py` says the same rules a second time: this package is installed without tfwsss, and the library imports nothing of
`serving`. `tests/serving/test_hostile.py` and `tests/serving/test_segmenter.py` hold the two against each other, file by file.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np

from .errors import ImageError, ImageSizeError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MOST_SCANS = 100  # an encoder writes about ten; each costs a pass over the whole picture, so that 100 kB keep a core busy for a minute
_ORIENTATION_TAG = 0x0112
_STRIP = 1 << 18  # pixels that are converted at a time
# Pillow's picture (up to 4), the array (3), the array turned upright (3); and what the format's own library holds.
_BYTES_PER_PIXEL = {"JPEG": 12, "PNG": 12, "BMP": 12, "GIF": 16, "TIFF": 24, "WEBP": 32}
_BYTES_PER_FILE = 2_000_000
_TURNS = {
    2: lambda array: array[:, ::-1],
    3: lambda array: array[::-1, ::-1],
    4: lambda array: array[::-1],
    5: lambda array: array.transpose(1, 0, 2),
    6: lambda array: np.rot90(array, -1),
    7: lambda array: array[::-1, ::-1].transpose(1, 0, 2),
    8: lambda array: np.rot90(array),
}


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
    with _opened(image, max_megapixels) as (picture, name):
        turn = _TURNS.get(_orientation(picture))
        array = _decode(picture, name)
        return array if turn is None else np.ascontiguousarray(turn(array))


def reading_cost(image, max_megapixels: float) -> tuple[int, int]:
    """(pixels, bytes of memory that reading takes at its peak) of a path's or file's bytes, told from its header.

    Raises:
        ImageError: see `Segmenter`.
    """
    with _opened(image, max_megapixels) as (picture, _):
        pixels = picture.height * picture.width
        rate = _BYTES_PER_PIXEL.get(picture.format, 12)
        if picture.format == "JPEG" and picture.info.get("progressive"):
            rate += 8  # libjpeg keeps the coefficients of the whole picture, two bytes each
        return pixels, rate * pixels + _BYTES_PER_FILE


def load_decoders() -> None:
    """Read a small file of each format once, which loads what takes Pillow a tenth of a second at the first photo."""
    try:
        from PIL import Image
    except ImportError:
        return  # arrays need no decoder
    for file_format in FORMATS:
        file = io.BytesIO()
        with contextlib.suppress(KeyError, OSError):  # this Pillow was built without the format
            Image.new("RGB", (16, 16)).save(file, file_format)
            to_array(file.getvalue(), 1.0)


@contextlib.contextmanager
def _opened(image, max_megapixels: float):
    """Yield (picture with its header read and its size checked, name); every failure inside becomes an ImageError."""
    name = str(image) if isinstance(image, (str, Path)) else "image"
    try:
        from PIL import Image
    except ImportError:
        raise ImageError(f"{name}: reading files needs Pillow; install it or pass uint8 arrays") from None
    if not isinstance(image, (str, Path, bytes, bytearray, memoryview, Image.Image)):
        raise ImageError(f"image: found {type(image).__name__}, expected a uint8 array, a path, bytes or a PIL image")
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(image, Image.Image):
                picture = image
            else:
                file = stack.enter_context(Path(image).open("rb") if isinstance(image, (str, Path)) else io.BytesIO(image))
                picture = _identify(file, name, max_megapixels)
            _check_size(picture.width, picture.height, name, max_megapixels)
            yield picture, name
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly every type
        raise ImageError(f"{name}: cannot be decoded: {str(error) or type(error).__name__}") from None


def _identify(file, name: str, max_megapixels: float):
    # Image.open has a limit on pixels that is global to the process, with numbers of its own; ours is per call.
    from PIL import (  # noqa: F401 (to know its format)
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    header = file.read(32)
    file.seek(0)
    if header[:4] == b"RIFF" and header[8:16] == b"WEBPVP8X":
        # libwebp takes two canvases of memory as it opens the file.
        width, height = (1 + int.from_bytes(header[at : at + 3], "little") for at in (24, 27))
        _check_size(width, height, name, max_megapixels)
    for file_format in FORMATS:
        if file_format not in Image.OPEN:
            continue  # Pillow may be built without WEBP
        factory, accept = Image.OPEN[file_format]
        if accept is None or accept(header[:16]) is True:
            picture = factory(file, "")
            if file_format == "JPEG":
                _check_scans(file, name)
            return picture
    raise ImageError(f"{name}: cannot be decoded: not an image, expected one of {', '.join(FORMATS)}" if header else f"{name}: cannot be decoded: no bytes")


def _check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise ImageSizeError(f"{name}: {width}x{height} pixels, the limit is {max_megapixels:g} megapixels")
    if width * height == 0:
        raise ImageError(f"{name}: an image without pixels")


def _check_scans(file, name: str) -> None:
    position, scans, last = file.tell(), 0, b""
    file.seek(0)
    for part in iter(lambda: file.read(1 << 20), b""):
        scans += (last + part).count(b"\xff\xda")
        last = part[-1:]
    file.seek(position)
    if scans > MOST_SCANS:
        raise ImageError(f"{name}: cannot be decoded: a JPEG of {scans} scans, the limit is {MOST_SCANS}")


def _orientation(picture) -> int:
    from PIL import Image, TiffImagePlugin

    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 1  # Pillow turns a TIFF upright while decoding it
    try:
        # The base class's method: PNG's own decodes the whole picture to look for EXIF behind the pixels.
        return int(Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF does not make the photo unusable
        return 1


def _decode(picture, name: str) -> np.ndarray:
    picture.load()
    if picture.mode == "F":
        raise ImageError(f"{name}: floating-point pixels, expected 8 or 16 bits a channel")
    convert = _grey if picture.mode == "I" or picture.mode.startswith("I;16") else _colours
    width, height = picture.size
    array = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):  # a strip at a time: the conversions take several times the picture's memory
        strip = picture if rows >= height else picture.crop((0, top, width, min(height, top + rows)))
        array[top : top + rows] = convert(strip, name)
    return array


def _grey(picture, name: str) -> np.ndarray:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name}: grey values {values.min()}..{values.max()}, expected 0..65535")
    return ((values * 255 + 32767) // 65535).astype(np.uint8)[:, :, None]


def _colours(picture, name: str) -> np.ndarray:
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
