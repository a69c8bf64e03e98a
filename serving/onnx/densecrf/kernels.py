"""The two kernels of one photo, and inference with them for any number of label problems."""

import time
from functools import lru_cache

import numpy as np

from . import lattice
from .lattice import Lattice, filter_gain, normalised_lattice
from .mean_field import ABSENT, LANES, infer

# The smoothness kernel depends on the photo's size alone, and photos of a data set have few: some are kept, not of large photos.
KEPT_SIZES, KEPT_PIXELS = 4, 1 << 20


@lru_cache(KEPT_SIZES)
def _kept_smoothness(height: int, width: int, sxy: float) -> Lattice:
    return normalised_lattice(height, width, sxy)


def _smoothness(height: int, width: int, sxy: float) -> Lattice:
    build = _kept_smoothness if height * width <= KEPT_PIXELS else normalised_lattice
    return build(height, width, sxy)


class Kernels:
    """Smoothness and appearance kernel of one photo, each with its lattice and symmetric normalisation.

    Args:
        image: [H, W, 3] uint8 RGB.
        gaussian_sxy: width of the smoothness kernel in pixels.
        bilateral_sxy, bilateral_srgb: widths of the appearance kernel in pixels and grey levels.

    Raises:
        ValueError: a width is not positive, or too small for the lattice.
    """

    def __init__(self, image, *, gaussian_sxy: float = 3.0, bilateral_sxy: float = 80.0, bilateral_srgb: float = 13.0):
        self.height, self.width = image.shape[:2]
        self.gaussian = _smoothness(self.height, self.width, float(gaussian_sxy))
        self.bilateral = normalised_lattice(self.height, self.width, bilateral_sxy, image, bilateral_srgb)

    def infer(self, unary, *, iterations: int = 10, gaussian_compat: float = 3.0, bilateral_compat: float = 10.0) -> np.ndarray:
        """Mean-field marginals with a Potts model, for all problems in one go.

        Args:
            unary: [P, H, W, K] float32 energies of P problems with K labels each, K >= 2.
            iterations: mean-field steps; 0 returns the softmax of ``-unary``.
            gaussian_compat, bilateral_compat: weights of the kernels.

        Returns:
            [P, H, W, K] float32, sum 1 over K. A problem's result does not depend on the others.
        """
        problems, height, width, labels = unary.shape
        pixels = height * width
        span = -(-labels // LANES)
        places = LANES if span > 1 else 1 << (labels - 1).bit_length()  # a problem's share of a block: a power of two
        together = LANES // places
        units = -(-problems // together)
        lanes = np.full((pixels, units, together, span * places), ABSENT)
        energies = unary.reshape(problems, pixels, labels)
        for problem in range(problems):
            np.negative(energies[problem], out=lanes[:, problem // together, problem % together, :labels])
        marginals = infer(
            lanes.reshape(pixels, units * span * LANES),
            span,
            places,
            int(iterations),
            self.gaussian,
            np.float32(gaussian_compat) * filter_gain(2),
            self.bilateral,
            np.float32(bilateral_compat) * filter_gain(5),
        ).reshape(lanes.shape)
        result = np.empty((problems, pixels, labels), np.float32)
        for problem in range(problems):
            result[problem] = marginals[:, problem // together, problem % together, :labels]
        return result.reshape(unary.shape)


def _compilations() -> int:
    functions = (lattice._build, lattice._normalise, infer)
    return sum(sum(function.stats.cache_misses.values()) for function in functions)


def compile_kernels() -> float:
    """Compile everything that is not on the disk yet, and load the rest. Returns the seconds spent; 0 if nothing was compiled."""
    started, before = time.perf_counter(), _compilations()
    Kernels(np.zeros((2, 2, 3), np.uint8)).infer(np.zeros((1, 2, 2, 2), np.float32), iterations=1)
    return time.perf_counter() - started if _compilations() > before else 0.0
