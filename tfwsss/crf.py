"""Dense CRF refinement of one photo's scores (Krähenbühl & Koltun, NIPS 2011).

Two engines compute the same to float32 rounding: `numba` is the project's own (package `tfwsss_densecrf`), runs in threads
and shares the kernels of a photo among all scores that are refined in one call; `pydensecrf` is the library of the
reference, which holds Python's global lock: in threads, one photo at a time.

This module imports no TensorFlow, to keep worker processes small, and neither engine before it is used.
"""

import numpy as np

from tfwsss import config
from tfwsss.background import background_score
from tfwsss.errors import ConfigError, DataError

SMALLEST_SCORE = 1e-5  # scores are clipped to this before the logarithm, as pydensecrf's own unary does


def dense_crf(
    image,
    scores,
    *,
    iterations: int = 10,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_compat: float = 10,
    normalize: bool = False,
    engine: str = "numba",
) -> np.ndarray:
    """Mean-field inference in a fully connected CRF with a smoothness and an appearance kernel (Potts model).

    Args:
        image: [H, W, 3] uint8 RGB.
        scores: [H, W, K] non-negative scores, K >= 1, or [P, H, W, K]: P problems on one photo, which share its kernels
            and do not influence each other. They need not sum to 1: the reference gives CAMs and the background score as
            they are; the unary is ``-log(clip(scores, 1e-5, 1))``.
        iterations: mean-field steps; 0 returns the softmax of the unary.
        gaussian_sxy, gaussian_compat: width in pixels and weight of the smoothness kernel.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and grey levels, and weight, of the
            appearance kernel.
        normalize: divide the scores by their sum over K first. The unary's softmax cancels a factor per pixel, so this
            changes the result only where a score is clipped.
        engine: "numba" or "pydensecrf".

    Returns:
        float32 marginals in the shape of `scores`, sum 1 over K.

    Raises:
        DataError: an array has the wrong shape or dtype, scores hold NaN or infinity, or a kernel is too narrow.
        ConfigError: the engine is unknown or not installed.
    """
    image = np.asarray(image)
    scores = np.asarray(scores, np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"image: expected [H, W, 3] uint8, found {list(image.shape)} {image.dtype}")
    if scores.ndim not in (3, 4) or scores.shape[-3:-1] != image.shape[:2] or 0 in scores.shape:
        raise DataError(f"scores: expected [{image.shape[0]}, {image.shape[1]}, K >= 1], found {list(scores.shape)}")
    if not np.isfinite(scores).all():
        raise DataError("scores: expected finite numbers, found NaN or infinity")
    if engine not in ENGINES:
        raise ConfigError(f"engine: found {engine!r}, expected {' or '.join(ENGINES)}")
    if scores.shape[-1] == 1:
        return np.ones_like(scores)
    if normalize:
        scores = scores / np.maximum(scores.sum(axis=-1, keepdims=True), SMALLEST_SCORE)
    energies = -np.log(np.clip(scores, SMALLEST_SCORE, 1.0))
    widths = {"gaussian_sxy": gaussian_sxy, "bilateral_sxy": bilateral_sxy, "bilateral_srgb": bilateral_srgb}
    weights = {"gaussian_compat": gaussian_compat, "bilateral_compat": bilateral_compat}
    problems = energies.reshape(-1, *energies.shape[-3:])
    return ENGINES[engine](image, problems, iterations, widths, weights).reshape(scores.shape)


def _numba(image, energies, iterations: int, widths: dict, weights: dict) -> np.ndarray:
    from tfwsss_densecrf import Kernels

    try:
        kernels = Kernels(image, **widths)
    except ValueError as error:
        raise DataError(f"dense CRF: {error}") from None
    return kernels.infer(energies, iterations=iterations, **weights)


def _pydensecrf(image, energies, iterations: int, widths: dict, weights: dict) -> np.ndarray:
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise ConfigError("engine: pydensecrf is not installed; pip install pydensecrf2, or choose numba") from None
    height, width, count = energies.shape[1:]
    colours = np.array(image, order="C")  # a copy: it takes no read-only arrays
    marginals = np.empty_like(energies)
    for energy, marginal in zip(energies, marginals, strict=True):
        model = DenseCRF2D(width, height, count)
        model.setUnaryEnergy(np.ascontiguousarray(energy.reshape(-1, count).T))
        model.addPairwiseGaussian(sxy=widths["gaussian_sxy"], compat=weights["gaussian_compat"])
        model.addPairwiseBilateral(
            sxy=widths["bilateral_sxy"], srgb=widths["bilateral_srgb"], rgbim=colours, compat=weights["bilateral_compat"]
        )
        marginal[:] = np.array(model.inference(iterations), np.float32).T.reshape(height, width, count)
    return marginals


ENGINES = {"numba": _numba, "pydensecrf": _pydensecrf}


def compile_engine(engine: str = "numba") -> float:
    """Make an engine ready before the first photo: numba compiles, once per installation and kind of processor.

    Returns the seconds that compiling took, some ten; 0 where the disk had it already.
    """
    if engine != "numba":
        return 0.0
    from tfwsss_densecrf import compile_kernels

    return compile_kernels()


def crf_scores_of_alphas(classes, cam, alphas, image, settings: config.Crf, normalize: bool = False) -> np.ndarray:
    """Refine class activation maps against backgrounds of several strengths, all on the same kernels.

    Args:
        classes: [K] class indices of the maps; only their number is checked. K = 0 gives certain background.
        cam: [K, H, W] in 0..1, at the photo's size.
        alphas: [A] background exponents, see `tfwsss.background.background_score`.
        image: [H, W, 3] uint8 RGB.
        settings: the CRF's parameters.
        normalize: as in `dense_crf`.

    Returns:
        [A, K+1, H, W] float32 marginals, background first, then the classes in the given order.

    Raises:
        DataError: shapes do not belong together.
    """
    cam = np.asarray(cam, np.float32)
    if cam.ndim != 3 or cam.shape[0] != len(classes) or cam.shape[1:] != np.shape(image)[:2]:
        raise DataError(f"cam: expected [{len(classes)}, *{list(np.shape(image)[:2])}], found {list(cam.shape)}")
    scores = np.stack([np.concatenate([background_score(cam, alpha)[None], cam]) for alpha in alphas])
    refined = dense_crf(image, scores.transpose(0, 2, 3, 1), **settings.model_dump(), normalize=normalize)
    return np.ascontiguousarray(refined.transpose(0, 3, 1, 2))


def crf_scores(classes, cam, alpha: float, image, settings: config.Crf, normalize: bool = False) -> np.ndarray:
    """`crf_scores_of_alphas` for one background exponent: [K+1, H, W]."""
    return crf_scores_of_alphas(classes, cam, (alpha,), image, settings, normalize)[0]
