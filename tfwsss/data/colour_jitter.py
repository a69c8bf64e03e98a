"""Colours of a photo: jitter, pixel for pixel as Pillow computes it, and normalisation, compiled by numba.

Pillow makes a new picture for each of a dozen steps and is asked for all of them under Python's global lock; here each
operation is one pass over the array, in a thread of its own if one likes. Rounding is Pillow's, to the bit: 8 bits after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tfwsss.normalization import Normalization
from tfwsss_densecrf.compiled import compiled

BLOCK = 256  # colours that are in the first cache together


@compiled
def _grey(colour):
    return (np.int64(colour[0]) * 19595 + np.int64(colour[1]) * 38470 + np.int64(colour[2]) * 7471 + 0x8000) >> 16


@compiled
def _blend(pixels, level, factor):
    """Multiply the distance of the colours [N, 3] from a grey level by `factor`, in place; level -1: from each pixel's own grey."""
    factor = np.float32(factor)
    for index in range(pixels.shape[0]):
        centre = np.int32(_grey(pixels[index]) if level < 0 else level)
        for channel in range(3):
            value = np.float32(centre) + factor * np.float32(np.int32(pixels[index, channel]) - centre)
            pixels[index, channel] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)))


@compiled
def _sum_of_greys(pixels):
    total = 0
    for index in range(pixels.shape[0]):
        total += _grey(pixels[index])
    return total


@compiled
def _turn_hue(pixels, steps):
    """Add `steps` to the 8-bit hue of the colours [N, 3], in place.

    The colours of a block are taken apart first, and nothing branches: so the arithmetic becomes vector instructions.
    """
    reds, greens, blues = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    for start in range(0, pixels.shape[0], BLOCK):
        count = min(BLOCK, pixels.shape[0] - start)
        for i in range(count):
            reds[i], greens[i], blues[i] = pixels[start + i, 0], pixels[start + i, 1], pixels[start + i, 2]
        for i in range(count):
            r, g, b = reds[i], greens[i], blues[i]
            high, low = g if g > b else b, g if g < b else b
            value, smallest = r if r > high else high, r if r < low else low
            difference = value - smallest
            extent = np.float32(difference if difference > 0 else np.int32(1))
            strength = np.int32(np.float64(np.float32(np.float32(difference) / np.float32(value if value > 0 else np.int32(1)))) * 255.0)
            rc, gc, bc = np.float32(value - r) / extent, np.float32(value - g) / extent, np.float32(value - b) / extent
            first = np.float64(np.float32(bc - gc))
            second = np.float64(np.float32(2.0 + np.float64(rc) - np.float64(bc)))
            third = np.float64(np.float32(4.0 + np.float64(gc) - np.float64(rc)))
            turn = (first if r == value else (second if g == value else third)) / 6.0 + 1.0
            whole = 1.0 if turn >= 1.0 else 0.0
            hue = (np.int32(np.float64(np.float32(turn - whole)) * 255.0) + steps) & 255
            position = np.float64(hue) * 6.0 / 255.0
            sector = np.int32(position)
            part, saturation = np.float32(position - np.float64(sector)), np.float32(strength) / np.float32(255.0)
            full = np.float64(value)
            p = np.int32(full * (1.0 - np.float64(saturation)) + 0.5)
            q = np.int32(full * (1.0 - np.float64(np.float32(saturation * part))) + 0.5)
            t = np.int32(full * (1.0 - np.float64(saturation) * (1.0 - np.float64(part))) + 0.5)
            # One selection after another: nested ones are compiled as branches.
            red = q if sector == 1 else p
            red = t if sector == 4 else red
            red = value if sector == 0 else red
            red = value if sector >= 5 else red
            green = t if sector == 0 else p
            green = t if sector == 6 else green
            green = q if sector == 3 else green
            green = value if sector == 1 else green
            green = value if sector == 2 else green
            blue = t if sector == 2 else p
            blue = q if sector == 5 else blue
            blue = value if sector == 3 else blue
            blue = value if sector == 4 else blue
            reds[i], greens[i], blues[i] = red, green, blue
        for i in range(count):
            pixels[start + i, 0], pixels[start + i, 1], pixels[start + i, 2] = reds[i], greens[i], blues[i]


@compiled
def _look_up(pixels, table, reversed_channels, values):
    """values [H, W, 3]: for each pixel and channel, the number that the table [256, 3] has for it."""
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            for channel in range(3):
                values[y, x, channel] = table[pixels[y, x, 2 - channel if reversed_channels else channel], channel]


def _colours(pixels: np.ndarray) -> np.ndarray:
    """The colours [H * W, 3] of a photo, a copy that may be written."""
    return np.array(pixels, np.uint8, order="C").reshape(-1, 3)


def jitter(pixels: np.ndarray, order: Sequence[int], brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Change a photo's colours as torchvision's ColorJitter does on Pillow's pictures.

    Args:
        pixels: [H, W, 3] uint8 RGB.
        order: in which the four operations run: 0 brightness, 1 contrast, 2 saturation, 3 hue.
        brightness, contrast, saturation: factors; contrast is relative to the mean grey of the photo.
        hue: turn of the hue, -0.5..0.5 of the colour circle.

    Returns:
        [H, W, 3] uint8.
    """
    colours = _colours(pixels)
    for operation in order:
        if operation == 0:
            _blend(colours, 0, brightness)
        elif operation == 1:
            _blend(colours, int(_sum_of_greys(colours) / len(colours) + 0.5), contrast)
        elif operation == 2:
            _blend(colours, -1, saturation)
        else:
            _turn_hue(colours, int(hue * 255))
    return colours.reshape(pixels.shape)


@lru_cache
def _table(normalization: Normalization) -> np.ndarray:
    return np.ascontiguousarray(normalization(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)))


def normalize_into(values: np.ndarray, pixels: np.ndarray, normalization: Normalization) -> None:
    """``values[...] = normalization(pixels)``, the same numbers, without computing them for every pixel.

    Args:
        values: [H, W, 3] float32, possibly a part of a larger array.
        pixels: [H, W, 3] uint8.
        normalization: of the network.
    """
    _look_up(np.array(pixels, np.uint8, order="C"), _table(normalization), normalization.bgr, values)
