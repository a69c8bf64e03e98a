"""Shapes that people draw in annotation tools, as masks: a pixel belongs to a shape as it does in COCO's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as rle

CORNERS = 64  # of an ellipse


def polygon_mask(points: Sequence[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """The inside of a closed polygon, [height, width] bool.

    Args:
        points: (x, y) in pixels, 0 at the left and upper edge of the photo; what lies outside is moved to the edge.

    Raises:
        ValueError: fewer than three points, or some that are not finite.
    """
    if len(points) < 3 or not all(math.isfinite(value) for point in points for value in point):
        raise ValueError(f"{len(points)} points, expected three or more of finite numbers")
    flat = [min(max(float(value), 0.0), float(most)) for point in points for value, most in zip(point, (width, height), strict=True)]
    return rle.decode(rle.merge(rle.frPyObjects([flat], height, width))).astype(bool)


def box_mask(left: float, top: float, right: float, bottom: float, height: int, width: int) -> np.ndarray:
    """The inside of a box; as `polygon_mask`."""
    return polygon_mask([(left, top), (right, top), (right, bottom), (left, bottom)], height, width)


def ellipse_mask(x: float, y: float, radius_x: float, radius_y: float, height: int, width: int) -> np.ndarray:
    """The inside of an ellipse around (x, y); as `polygon_mask`."""
    turns = [2 * math.pi * step / CORNERS for step in range(CORNERS)]
    return polygon_mask([(x + radius_x * math.cos(turn), y + radius_y * math.sin(turn)) for turn in turns], height, width)
