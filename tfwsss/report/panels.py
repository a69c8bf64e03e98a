"""Pictures of the method's arrays, small enough for a page with many of them.

Every panel of an image has the size of its thumbnail. CAMs and label maps are inked in the VOC colours, the colours
of the PNG files on disk, over a pale grey copy of the photo; pixels to ignore are hatched.
"""

import io

import numpy as np
from PIL import Image

from tfwsss.errors import DataError
from tfwsss.storage.artifacts import IGNORE, voc_palette

MAX_SIDE = 256
MAX_BYTES = 24_000  # of one encoded panel: 24 rows of 7 panels stay below 6 MB as base64
QUALITIES = (88, 80, 70, 55, 40)

PALETTE = voc_palette()
PALE_FLOOR = 0.52  # the pale photo spans the greys from here to white, so that also dark VOC colours stand out
CAM_INK = 0.9
LABEL_INK = 0.66
HATCH_PERIOD = 8  # pixels
HATCH_DARK, HATCH_LIGHT, HATCH_INK = 96.0, 250.0, 0.85


def thumbnail_size(height: int, width: int, max_side: int = MAX_SIDE) -> tuple[int, int]:
    """(height, width) scaled down so that the long side is at most `max_side`; small images keep their size."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def photo_panel(photo: np.ndarray, max_side: int = MAX_SIDE) -> np.ndarray:
    """The thumbnail, [h, w, 3] uint8.

    Raises:
        DataError: the photo is not a non-empty [H, W, 3] uint8 array.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or photo.size == 0:
        raise DataError(f"photo: expected uint8 [H, W, 3], found {photo.dtype} {list(photo.shape)}")
    height, width = thumbnail_size(photo.shape[0], photo.shape[1], max_side)
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))


def cam_panel(photo: np.ndarray, classes: np.ndarray, cam: np.ndarray, max_side: int = MAX_SIDE) -> np.ndarray:
    """The strongest class of each pixel, the more ink the higher its CAM.

    Args:
        photo: [H, W, 3] uint8.
        classes: [K] class indices without background; K may be 0.
        cam: [K, h, w] in 0..1, at any resolution.

    Returns:
        [h', w', 3] uint8.

    Raises:
        DataError: `cam` and `classes` do not fit each other.
    """
    pale = _pale(photo, max_side)
    classes, cam = np.asarray(classes), np.asarray(cam, np.float32)
    if cam.ndim != 3 or len(cam) != len(classes) or (len(cam) and 0 in cam.shape):
        raise DataError(f"cam: expected [{len(classes)}, h, w] for {len(classes)} classes, found {list(cam.shape)}")
    if len(classes) == 0:
        return pale.astype(np.uint8)
    height, width = pale.shape[:2]
    maps = [Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR) for one in np.nan_to_num(cam)]
    maps = np.clip(np.stack([np.asarray(one) for one in maps]), 0.0, 1.0)
    colour = PALETTE[np.asarray(classes, int) + 1].astype(np.float32)[maps.argmax(axis=0)]
    return _blend(pale, colour, CAM_INK * maps.max(axis=0))


def label_panel(photo: np.ndarray, label: np.ndarray, max_side: int = MAX_SIDE) -> np.ndarray:
    """A label map over the pale photo: classes inked with a solid edge, ignored pixels hatched, background bare.

    Args:
        photo: [H, W, 3] uint8.
        label: [h, w] integers 0 background, k+1 class k, 255 ignore, at any resolution.

    Returns:
        [h', w', 3] uint8.

    Raises:
        DataError: the label is not a non-empty [h, w] integer array of 0..255.
    """
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype.kind not in "ui" or label.size == 0 or label.min() < 0 or label.max() > 255:
        raise DataError(f"label map: expected integers 0..255 of shape [h, w], found {label.dtype} {list(label.shape)}")
    pale = _pale(photo, max_side)
    height, width = pale.shape[:2]
    small = Image.fromarray(label.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    label = np.asarray(small)
    ignored = label == IGNORE
    ink = np.where(label == 0, 0.0, LABEL_INK)
    ink[_edge(label) & (label != 0)] = 1.0
    ink[ignored] = HATCH_INK
    colour = PALETTE[label].astype(np.float32)
    colour[ignored] = _hatch(height, width)[ignored]
    return _blend(pale, colour, ink)


def hatch_chip(side: int = 16) -> np.ndarray:
    """A square of the pattern that means "ignore", for legends: [side, side, 3] uint8."""
    return _hatch(side, side).astype(np.uint8)


def encode_jpeg(panel: np.ndarray, max_bytes: int = MAX_BYTES) -> bytes:
    """JPEG of at most `max_bytes` (a few hundred at least): lower quality first, then fewer pixels."""
    picture = Image.fromarray(panel)
    while True:
        for quality in QUALITIES:
            buffer = io.BytesIO()
            # No chroma subsampling: the edges between class colours are the content.
            picture.save(buffer, "JPEG", quality=quality, subsampling=0)
            if buffer.tell() <= max_bytes or picture.size == (1, 1):
                return buffer.getvalue()
        picture = picture.resize((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))


def encode_png(panel: np.ndarray) -> bytes:
    """Lossless, for small pictures of few colours."""
    buffer = io.BytesIO()
    Image.fromarray(panel).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _pale(photo: np.ndarray, max_side: int) -> np.ndarray:
    """The thumbnail as a light grey float image [h, w, 3]."""
    grey = np.asarray(Image.fromarray(photo_panel(photo, max_side)).convert("L"), np.float32)
    return np.repeat((255.0 * PALE_FLOOR + (1.0 - PALE_FLOOR) * grey)[..., None], 3, axis=2)


def _blend(base: np.ndarray, colour: np.ndarray, ink: np.ndarray) -> np.ndarray:
    ink = ink[..., None]
    return np.rint(base * (1.0 - ink) + colour * ink).astype(np.uint8)


def _edge(label: np.ndarray) -> np.ndarray:
    """Pixels with another label directly above, below, left or right: [h, w] bool."""
    edge = np.zeros(label.shape, bool)
    vertical, horizontal = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    return edge


def _hatch(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    dark = (x + y) % HATCH_PERIOD < HATCH_PERIOD // 2
    return np.repeat(np.where(dark, HATCH_DARK, HATCH_LIGHT)[..., None], 3, axis=2).astype(np.float32)
