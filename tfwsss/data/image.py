"""Photos and masks from disk: refused by their header when too large, upright, always RGB or label indices.

Read are JPEG, PNG, WEBP, BMP, TIFF and GIF. Of an animation the first frame counts. This module does not import
TensorFlow: it runs in worker processes.

`serving/onnx/images.py` reads photos by the same rules: change both.
"""

import contextlib
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tfwsss.errors import ImageError

# Pillow also knows formats that call other programs or read other files (EPS, FITS, ...): only these are tried.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
    )
)

START_OF_SCAN = b"\xff\xda"
# Encoders write about ten; each costs a pass over the whole picture, so that 100 kB could keep a core busy for a minute.
MOST_SCANS = 100

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _identify(file, path: Path) -> Image.Image:
    # As Image.open(path, formats=FORMATS), but without its limit on pixels: that one is global to the process, warns
    # or refuses by numbers of its own, and ours (per call, checked right after this) takes its place.
    prefix = file.read(16)
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(prefix) is True:
            file.seek(0)
            return factory(file, str(path))
    raise ImageError(f"{path}: not an image, expected one of {', '.join(FORMATS)}")


@contextlib.contextmanager
def _opened(path):
    """Yield the picture with only its header read; every failure inside the block becomes an ImageError."""
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path}: a folder, expected the file of a photo")
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting for ever
            raise ImageError(f"{path}: not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(f"{path}: the file is empty")
            file.seek(0)
            yield _identify(file, path)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except MemoryError:
        raise ImageError(f"{path}: not enough memory to decode it") from None
    except Exception as error:  # damaged files make Pillow's decoders raise nearly every type
        reason = getattr(error, "strerror", None) or str(error).replace(repr(str(path)), "file") or type(error).__name__
        raise ImageError(f"{path}: cannot be decoded: {reason}") from None


def _check_size(picture: Image.Image, path, max_megapixels: float) -> None:
    megapixels = picture.width * picture.height / 1e6
    if megapixels > max_megapixels:
        raise ImageError(
            f"{path}: too large: {picture.width}x{picture.height} px are {megapixels:.4g} megapixels, "
            f"the limit is {max_megapixels:.4g} (data.max_megapixels; predict: --max-megapixels)"
        )


def _check_scans(picture: Image.Image, path) -> None:
    if picture.format in ("JPEG", "MPO") and (scans := Path(path).read_bytes().count(START_OF_SCAN)) > MOST_SCANS:
        raise ImageError(f"{path}: cannot be decoded: a JPEG of {scans} scans, the limit is {MOST_SCANS}")


def _orientation(picture: Image.Image) -> int:
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 1  # Pillow turns a TIFF upright while decoding it, and reports the turned size before
    try:
        # The base class's method: PNG's own decodes the whole picture to look for EXIF behind the pixels.
        return int(Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF does not make the photo unusable
        return 1


def _from_16_bits(picture: Image.Image, path) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{path}: grey values {values.min()}..{values.max()}, expected 0..65535")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def _to_rgb(picture: Image.Image, path) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return _from_16_bits(picture, path).convert("RGB")
    if picture.mode == "F":
        raise ImageError(f"{path}: floating-point pixels, expected 8 or 16 bits a channel")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def image_size(path) -> tuple[int, int]:
    """(height, width) of an image as `read_image` would return it, from the header alone.

    Raises:
        ImageError: the file is missing or not an image.
    """
    with _opened(path) as picture:
        width, height = picture.size
        return (width, height) if _orientation(picture) >= 5 else (height, width)


def _decoded(picture: Image.Image, path, max_megapixels: float) -> Image.Image:
    _check_size(picture, path, max_megapixels)
    _check_scans(picture, path)
    turn = _TURNS.get(_orientation(picture))
    picture.load()
    rgb = _to_rgb(picture, path)
    return rgb if turn is None else rgb.transpose(turn)


def reduced_size(height: int, width: int, long_side: int | None) -> tuple[int, int]:
    """(height, width) of an image once its long side is at most `long_side` pixels (None: any); a side has 1 pixel at least."""
    longest = max(height, width)
    if long_side is None or longest <= long_side:
        return height, width
    return max(round(height * long_side / longest), 1), max(round(width * long_side / longest), 1)


def reduced(picture: Image.Image, long_side: int | None) -> Image.Image:
    """A photo whose long side is at most `long_side` pixels, made smaller bilinearly with antialiasing, as `tf.image.resize` does."""
    height, width = reduced_size(picture.height, picture.width, long_side)
    return picture if (width, height) == picture.size else picture.resize((width, height), Image.Resampling.BILINEAR)


def with_nearest(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A label map [H, W] uint8 of another size (height, width): each pixel is the nearest one's, so that enlarging and reducing again changes nothing."""
    if label.shape == size:
        return label
    # Whole numbers: a pixel's centre may lie on the border of two, where floating-point numbers decide by chance.
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(label.shape, size, strict=True))
    return label[rows][:, columns]


def read_picture(path, max_megapixels: float = 50.0) -> Image.Image:
    """`read_image` as a decoded picture of Pillow, mode RGB."""
    with _opened(path) as picture:
        return _decoded(picture, path, max_megapixels)


def read_image(path, max_megapixels: float = 50.0) -> np.ndarray:
    """Read a photo as RGB, turned upright by its EXIF orientation.

    Grey, palette, CMYK and 1-bit photos are converted; 16-bit grey is scaled so that 65535 becomes 255; transparent
    pixels are laid over white.

    Args:
        path: the file; its format is recognised by content.
        max_megapixels: photos whose header announces more are refused before anything is decoded.

    Returns:
        [H, W, 3] uint8, writable.

    Raises:
        ImageError: the file is missing, too large, truncated or not an image; the message names path and reason.
    """
    with _opened(path) as picture:
        return np.array(_decoded(picture, path, max_megapixels))


def read_mask(path, max_megapixels: float = 50.0) -> np.ndarray:
    """Read a label map: the indices of a palette image or the values of a grey one, never its colours.

    Returns:
        [H, W] uint8. EXIF orientation is not applied: masks are drawn, not photographed.

    Raises:
        ImageError: as `read_image`; or the file holds colours, or values above 255.
    """
    with _opened(path) as picture:
        _check_size(picture, path, max_megapixels)
        picture.load()
        if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
            raise ImageError(f"{path}: a mask of mode {picture.mode}, expected an indexed or grey PNG of class numbers")
        values = np.asarray(picture)
        if values.dtype != bool and (values.min() < 0 or values.max() > 255):
            raise ImageError(f"{path}: mask values {values.min()}..{values.max()}, expected 0..255")
        return values.astype(np.uint8)
