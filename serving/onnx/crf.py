"""Dense CRF refinement of one photo's scores (Krähenbühl & Koltun, NIPS 2011) through the optional pydensecrf."""

import numpy as np

from .errors import DependencyError, ImageError

SMALLEST_SCORE = 1e-5  # as in training: scores are clipped to this before the logarithm


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

    Args:
        image: uint8 [H, W, 3] RGB.
        scores: float [H, W, L] class probabilities, `Segmenter.scores`.
        iterations: mean-field steps.
        gaussian_sxy, gaussian_compat: width in pixels and weight of the smoothness kernel.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and grey levels, and weight, of the
            appearance kernel.

    Returns:
        float32 [H, W, L] marginals, sum 1 over L.

    Raises:
        DependencyError: pydensecrf is not installed.
        ImageError: the arrays do not belong together.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise DependencyError("CRF refinement needs pydensecrf; install tfwsss-onnx[crf] or pydensecrf2") from None
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or scores.ndim != 3 or scores.shape[:2] != image.shape[:2]:
        raise ImageError(f"image: found {image.dtype} {image.shape} with scores {scores.shape}, expected uint8 [H, W, 3] and [H, W, labels]")
    height, width, labels = scores.shape
    unary = -np.log(np.clip(scores.astype(np.float32), SMALLEST_SCORE, 1))
    field = DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(np.ascontiguousarray(np.moveaxis(unary, 2, 0).reshape(labels, -1)))
    field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    field.addPairwiseBilateral(sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=np.ascontiguousarray(image), compat=bilateral_compat)
    marginals = np.array(field.inference(iterations), np.float32)
    return np.ascontiguousarray(marginals.T).reshape(height, width, labels)
