"""Random photo augmentation with numpy and Pillow, drawn from a `random.Random` that the caller seeds.

Scaling, cropping and flipping ask the generator for the same numbers in the same order as the PSA reference code
(Ahn & Kwak, CVPR 2018) asks Python's `random`, so that equal seeds give equal results. Resizing is Pillow's, whose
filters antialias when they shrink; TensorFlow's resizing gives other pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tfwsss.config.data import Orientation
from tfwsss.data import colour_jitter

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.3, 0.3, 0.3, 0.1


def pil_filter(switch: str) -> Image.Resampling:
    """Resampling filter of `config.Switches.resize_filter`: "faithful" bicubic, "corrected" bilinear."""
    return {"faithful": Image.Resampling.BICUBIC, "corrected": Image.Resampling.BILINEAR}[switch]


# ---------------------------------------------------------------------------------------------------- scaling


def resize_long(
    image: Image.Image, interval: tuple[int, int], rng: random.Random, filter: Image.Resampling
) -> Image.Image:
    """Resize so that the long side is uniform in the closed integer `interval`; the short side follows, at least 1."""
    long = rng.randint(*interval)
    width, height = image.size
    if width < height:
        return image.resize((max(1, round(width * long / height)), long), filter)
    return image.resize((long, max(1, round(height * long / width))), filter)


def random_scale(
    image: Image.Image, interval: tuple[float, float], rng: random.Random, filter: Image.Resampling
) -> Image.Image:
    """Resize both sides by one factor uniform in `interval`; a side is rounded to whole pixels, at least 1."""
    scale = rng.uniform(*interval)
    width, height = image.size
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), filter)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize of a label map [H, W] uint8 to Pillow's `size` (width, height)."""
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


# --------------------------------------------------------------------------------------------------- cropping


@dataclass(frozen=True)
class CropWindow:
    """Where a square crop lies in an image, and where the image's part lies in the crop when it is smaller.

    Drawn once and applied to every array that belongs to one image. All numbers are pixels; along each axis either
    the image offset or the canvas offset is 0.
    """

    size: int
    image_top: int
    image_left: int
    canvas_top: int
    canvas_left: int
    height: int
    width: int

    @classmethod
    def random(cls, height: int, width: int, size: int, rng: random.Random) -> CropWindow:
        """A window of side `size` at a random place; an image smaller than it gets a random place inside it."""
        image_left, canvas_left = _random_offsets(width, size, rng)
        image_top, canvas_top = _random_offsets(height, size, rng)
        return cls(size, image_top, image_left, canvas_top, canvas_left, min(height, size), min(width, size))

    @classmethod
    def center(cls, height: int, width: int, size: int) -> CropWindow:
        """A window of side `size` whose centre is the image's (odd differences: rounded half to even)."""
        image_left, canvas_left = _center_offsets(width, size)
        image_top, canvas_top = _center_offsets(height, size)
        return cls(size, image_top, image_left, canvas_top, canvas_left, min(height, size), min(width, size))

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The part of [H, W, ...] inside the window: a view [height, width, ...]."""
        return array[
            self.image_top : self.image_top + self.height,
            self.image_left : self.image_left + self.width,
        ]

    def cut_picture(self, picture: Image.Image) -> np.ndarray:
        """`cut` of a picture, without making an array of all of it: [height, width, 3] uint8."""
        box = (self.image_left, self.image_top, self.image_left + self.width, self.image_top + self.height)
        return np.asarray(picture.crop(box))

    def seat(self, canvas: np.ndarray) -> np.ndarray:
        """The part of a canvas [size, size, ...] that `place` fills: a view [height, width, ...]."""
        return canvas[
            self.canvas_top : self.canvas_top + self.height,
            self.canvas_left : self.canvas_left + self.width,
        ]

    def place(self, part: np.ndarray, fill: float | Sequence[float]) -> np.ndarray:
        """Put a part made by `cut` on a canvas [size, size, ...] of `fill`: one value, or one per channel."""
        canvas = np.empty((self.size, self.size, *part.shape[2:]), part.dtype)
        if part.shape[:2] != (self.size, self.size):
            canvas[...] = fill
        self.seat(canvas)[...] = part
        return canvas

    def crop(self, array: np.ndarray, fill: float | Sequence[float]) -> np.ndarray:
        """[H, W, ...] -> [size, size, ...] of the same dtype; `fill` outside the image."""
        return self.place(self.cut(array), fill)


def _random_offsets(length: int, size: int, rng: random.Random) -> tuple[int, int]:
    if length > size:
        return rng.randrange(length - size + 1), 0
    return 0, rng.randrange(size - length + 1)  # drawn at equal sizes too, as the reference does


def _center_offsets(length: int, size: int) -> tuple[int, int]:
    if length > size:
        return round((length - size) / 2), 0
    return 0, round((size - length) / 2)


def random_crop(array: np.ndarray, size: int, rng: random.Random, fill: float | Sequence[float]) -> np.ndarray:
    """[H, W, ...] -> [size, size, ...] at a random place; see `CropWindow.random`."""
    return CropWindow.random(array.shape[0], array.shape[1], size, rng).crop(array, fill)


def center_crop(array: np.ndarray, size: int, fill: float | Sequence[float]) -> np.ndarray:
    """[H, W, ...] -> [size, size, ...] around the centre; see `CropWindow.center`."""
    return CropWindow.center(array.shape[0], array.shape[1], size).crop(array, fill)


# --------------------------------------------------------------------------------------- mirroring and turning


def draw_flip(rng: random.Random) -> bool:
    """Whether to mirror: true half of the time. One draw serves an image and its labels (`numpy.fliplr`)."""
    return bool(rng.getrandbits(1))


def draw_turns(orientation: Orientation, rng: random.Random) -> int:
    """Quarter turns of a crop, 0 to 3, for `numpy.rot90`; photos that have an up are not turned, and nothing is drawn."""
    return rng.getrandbits(2) if orientation == "any" else 0


# ------------------------------------------------------------------------------------------------------ colour


def color_jitter(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Random brightness, contrast, saturation and hue in random order, on 8 bits after each, as torchvision does.

    The factors of the first three are uniform in 0.7..1.3 (contrast is relative to the mean grey of the image); the hue
    moves by up to a tenth of the colour circle either way. [H, W, 3] uint8 -> the same.
    """
    order = rng.sample(range(4), 4)
    brightness = rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS)
    contrast = rng.uniform(1 - CONTRAST, 1 + CONTRAST)
    saturation = rng.uniform(1 - SATURATION, 1 + SATURATION)
    return colour_jitter.jitter(pixels, order, brightness, contrast, saturation, rng.uniform(-HUE, HUE))
