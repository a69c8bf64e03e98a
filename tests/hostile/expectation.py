"""What a reader owes to a file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Expectation(NamedTuple):
    """What a reader owes to a file.

    kind: "error": a typed error, always. "mask": it is a sound picture. "either": decoders may differ in how much they
        forgive; a typed error, or a mask of what the training's reader (`tfwsss.data.image.read_image`) makes of it.
    size: (height, width) of the upright picture where it is sound.
    pixels: uint8 [H, W, 3], what a lossless file holds; None where the file is lossy or its reading a convention.
    """

    kind: str
    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None


class HostileFile(NamedTuple):
    """A file by name (its extension says what it claims to be), its bytes, and what a reader owes to it."""

    name: str
    data: bytes
    expectation: Expectation


ERROR = Expectation("error")
EITHER = Expectation("either")


def mask(pixels: np.ndarray) -> Expectation:
    """A sound lossless picture."""
    return Expectation("mask", pixels.shape[:2], pixels)


def sized(height: int, width: int) -> Expectation:
    """A sound picture of this size whose pixels are not stated."""
    return Expectation("mask", (height, width))
