"""The matrix of a rotation and shear about the centre of an image, as TensorFlow's projective transform takes it."""

from __future__ import annotations

import math

import numpy as np


def output_to_input(height: int, width: int, angle: float, shear: float) -> np.ndarray:
    """Eight numbers [a0 a1 a2 b0 b1 b2 0 0] float32: the output's point (x, y) shows the input's (a0 x + a1 y + a2, b0 x + b1 y + b2).

    The centre of the image stays. The output is the input sheared (``x + shear * y``), then turned counterclockwise.

    Args:
        height, width: pixels.
        angle: radians.
        shear: columns per row.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[1.0, -shear], [0.0, 1.0]]) @ np.array([[cos, -sin], [sin, cos]])
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center - linear @ center
    return np.array([*linear[0], offset[0], *linear[1], offset[1], 0, 0], np.float32)
