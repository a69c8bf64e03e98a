"""Dense CRF refinement of one photo's scores (Krähenbühl & Koltun, NIPS 2011) with the optional numba."""

import numpy as np

from .errors import DependencyError, ImageError

SMALLEST_SCORE = 1e-5  # as in training: scores are clipped to this before the logarithm


def _engine():
    # numba takes half a second to import and is not there without the extra.
    try:
        import tfwsss_densecrf
    except ImportError as error:
        raise DependencyError(f"CRF refinement needs numba ({error}); install tfwsss-onnx[crf] or numba") from None
    return tfwsss_densecrf


def compile_crf() -> float:
    """Compile the CRF ahead of its first use; the result is kept on the disk, for this kind of processor.

    Returns the seconds that compiling took, some ten; 0 where the disk had it already.

    Raises:
        DependencyError: numba is not installed.
    """
    return _engine().compile_kernels()


def dense_crf(
    image: np.ndarray,
    scores: np.ndarray,
    *,
    iterations: int = 10,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_compat: float = 10,
) -> np.ndarray:
    """Mean-field inference in a fully connected CRF: what `tfwsss.crf.dense_crf` computes, without that package.

    Several threads may call it at the same time. The first call on a machine compiles, see `compile_crf`.

    Args:
        image: uint8 [H, W, 3] RGB.
        scores: float [H, W, L] class probabilities, `Segmenter.scores`; L of 2 or more.
        iterations: mean-field steps.
        gaussian_sxy, gaussian_compat: width in pixels and weight of the smoothness kernel.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and grey levels, and weight, of the
            appearance kernel.

    Returns:
        float32 [H, W, L] marginals, sum 1 over L.

    Raises:
        DependencyError: numba is not installed.
        ImageError: the arrays do not belong together, or a kernel is too narrow.
    """
    engine = _engine()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or scores.ndim != 3 or scores.shape[:2] != image.shape[:2] or scores.shape[2] < 2:
        raise ImageError(f"image: found {image.dtype} {image.shape} with scores {scores.shape}, expected uint8 [H, W, 3] and [H, W, labels]")
    energies = -np.log(np.clip(scores.astype(np.float32), SMALLEST_SCORE, 1))
    try:
        kernels = engine.Kernels(image, gaussian_sxy=gaussian_sxy, bilateral_sxy=bilateral_sxy, bilateral_srgb=bilateral_srgb)
    except ValueError as error:
        raise ImageError(f"dense CRF: {error}") from None
    return kernels.infer(energies[None], iterations=iterations, gaussian_compat=gaussian_compat, bilateral_compat=bilateral_compat)[0]
