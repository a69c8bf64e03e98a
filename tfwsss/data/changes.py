"""The optional augmentations (sharpness, rotation, shear, cut-out), drawn once for everything that belongs to one image.

The operations are the stack's: tensorflow-addons' on Keras 2, Keras' or this project's on Keras 3.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from tfwsss import stack
from tfwsss.config import Augmentation


@dataclass(frozen=True)
class Changes:
    """One draw of `config.Augmentation`, applied to every array that belongs to one image.

    Attributes:
        sharpness: factor; 1 leaves the photo as it is.
        angle: radians, counterclockwise.
        shear: columns per row.
        hole: [2] int32, row and column of the cut-out square's centre in the crop; (0, 0) when there is none.
    """

    sharpness: float
    angle: float
    shear: float
    hole: np.ndarray

    @classmethod
    def draw(cls, settings: Augmentation, crop: int, rng: random.Random) -> Changes:
        """Asks the generator only for what is switched on, so that other draws stay what they are without it."""

        def around(centre: float, extent: float) -> float:
            return rng.uniform(centre - extent, centre + extent) if extent else centre

        sharpness, angle = around(1.0, settings.sharpness), math.radians(around(0.0, settings.rotate))
        shear = around(0.0, settings.shear)
        half = hole_side(settings, crop) // 2
        hole = [rng.randrange(half, crop - half + 1) for _ in range(2)] if half else [0, 0]
        return cls(sharpness, angle, shear, np.array(hole, np.int32))

    def sharpen(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint8 -> the same."""
        return pixels if self.sharpness == 1.0 else stack.sharpen(pixels, self.sharpness)

    def warp(self, array: np.ndarray, fill: float) -> np.ndarray:
        """[H, W, C] float32, sheared and turned about the centre with bilinear interpolation; `fill` outside."""
        if self.angle == self.shear == 0.0:
            return array
        return stack.warp(array.astype(np.float32), self.angle, self.shear, bilinear=True, fill=fill)

    def warp_label(self, label: np.ndarray, fill: int) -> np.ndarray:
        """[H, W] uint8, moved as `warp` moves the image, each pixel with the nearest label."""
        if self.angle == self.shear == 0.0:
            return label
        return stack.warp(label[..., None], self.angle, self.shear, bilinear=False, fill=fill)[..., 0]


def hole_side(settings: Augmentation, crop: int) -> int:
    """Side of the cut-out square in pixels, even; 0: none."""
    return 2 * round(settings.cutout * crop / 2)
