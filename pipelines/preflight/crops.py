"""Crops that would hold more emptiness than photo."""

from __future__ import annotations

from tfwsss.config import Config

EMPTY = 0.75  # of the crop's area


def crop_warnings(config: Config, height: int, width: int) -> list[str]:
    """One line for each training whose crops are mostly outside the photos.

    Args:
        config: of the run.
        height, width: pixels of a typical training photo.
    """
    longest = max(height, width)
    classifier, segmenter = config.classifier, config.segmenter
    if classifier.scale_range is None:
        classifier_scale, how = classifier.resize_long[1] / longest, f"classifier.resize_long up to {classifier.resize_long[1]}"
    else:
        classifier_scale, how = classifier.scale_range[1], f"classifier.scale_range up to {classifier.scale_range[1]:g}"
    largest = {
        "classifier": (classifier.crop, classifier_scale, how),
        "affinitynet": (config.affinitynet.crop, 1.0, "as they are"),
        "segmenter": (segmenter.crop, segmenter.scale_range[1], f"segmenter.scale_range up to {segmenter.scale_range[1]:g}"),
    }
    warnings = []
    for name, (crop, scale, how) in largest.items():
        filled = min(height * scale, crop) * min(width * scale, crop) / crop**2
        if filled < 1 - EMPTY:
            warnings.append(f"{name}.crop {crop}: photos of {width}x{height} px, the median here, fill {filled:.0%} of it at most ({how}); take a smaller crop")
    return warnings
