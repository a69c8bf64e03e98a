"""Dense CRF refinement of one photo's scores (Krähenbühl & Koltun, NIPS 2011) through pydensecrf.

pydensecrf holds Python's global lock, so parallel runs need processes; this module imports no TensorFlow to keep such
workers small.
"""

import numpy as np
import pydensecrf.densecrf as densecrf

from tfwsss import config
from tfwsss.background import background_score
from tfwsss.errors import DataError

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
) -> np.ndarray:
    """Mean-field inference in a fully connected CRF with a smoothness and an appearance kernel (Potts model).

    Args:
        image: [H, W, 3] uint8 RGB.
        scores: [H, W, K] non-negative scores, K >= 1. They need not sum to 1: the reference gives CAMs and the
            background score as they are; the unary is ``-log(clip(scores, 1e-5, 1))``.
        iterations: mean-field steps; 0 returns the softmax of the unary.
        gaussian_sxy, gaussian_compat: width in pixels and weight of the smoothness kernel.
        bilateral_sxy, bilateral_srgb, bilateral_compat: widths in pixels and grey levels, and weight, of the
            appearance kernel.
        normalize: divide the scores by their sum over K first. The unary's softmax cancels a factor per pixel, so this
            changes the result only where a score is clipped.

    Returns:
        [H, W, K] float32 marginals, sum 1 over K.

    Raises:
        DataError: an array has the wrong shape or dtype, or scores hold NaN or infinity.
    """
    image = np.asarray(image)
    scores = np.asarray(scores, np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"image: expected [H, W, 3] uint8, found {list(image.shape)} {image.dtype}")
    if scores.ndim != 3 or scores.shape[:2] != image.shape[:2] or 0 in scores.shape:
        raise DataError(f"scores: expected [{image.shape[0]}, {image.shape[1]}, K >= 1], found {list(scores.shape)}")
    if not np.isfinite(scores).all():
        raise DataError("scores: expected finite numbers, found NaN or infinity")
    height, width, count = scores.shape
    if count == 1:
        return np.ones((height, width, 1), np.float32)
    if normalize:
        scores = scores / np.maximum(scores.sum(axis=2, keepdims=True), SMALLEST_SCORE)
    unary = -np.log(np.clip(scores, SMALLEST_SCORE, 1.0))
    model = densecrf.DenseCRF2D(width, height, count)
    model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, count).T, np.float32))
    model.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    model.addPairwiseBilateral(
        sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=np.ascontiguousarray(image), compat=bilateral_compat
    )
    marginals = np.array(model.inference(iterations), np.float32)
    return np.ascontiguousarray(marginals.T).reshape(height, width, count)


def crf_scores(classes, cam, alpha: float, image, settings: config.Crf, normalize: bool = False) -> np.ndarray:
    """Refine class activation maps against a background of strength `alpha`.

    Args:
        classes: [K] class indices of the maps; only their number is checked. K = 0 gives certain background.
        cam: [K, H, W] in 0..1, at the photo's size.
        alpha: background exponent, see `tfwsss.background.background_score`.
        image: [H, W, 3] uint8 RGB.
        settings: the CRF's parameters.
        normalize: as in `dense_crf`.

    Returns:
        [K+1, H, W] float32 marginals, background first, then the classes in the given order.

    Raises:
        DataError: shapes do not belong together.
    """
    cam = np.asarray(cam, np.float32)
    if cam.ndim != 3 or cam.shape[0] != len(classes) or cam.shape[1:] != np.shape(image)[:2]:
        raise DataError(f"cam: expected [{len(classes)}, *{list(np.shape(image)[:2])}], found {list(cam.shape)}")
    scores = np.concatenate([background_score(cam, alpha)[None], cam])
    refined = dense_crf(image, scores.transpose(1, 2, 0), **settings.model_dump(), normalize=normalize)
    return np.ascontiguousarray(refined.transpose(2, 0, 1))
