"""Photos that are far larger than what crops, walks and networks are made for."""

from __future__ import annotations

from tfwsss.config import Config

LARGE = 1000  # pixels of the long side
USUAL = 512  # of PASCAL VOC's photos, for which the method was made


def large_photo_warnings(config: Config, height: int, width: int) -> list[str]:
    """A line where the photos are large and `data.long_side` does not make them smaller.

    Args:
        config: of the run.
        height, width: pixels of a typical training photo in its file.
    """
    if max(height, width) <= LARGE or config.data.long_side is not None:
        return []
    return [
        f"photos of {width}x{height} px, the median here, are far larger than the {USUAL} px that crops, walks and networks are made for: objects are larger than what a "
        f"network sees at once, and every stage takes long; data.long_side: {USUAL} makes them smaller"
    ]
