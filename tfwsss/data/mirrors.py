"""Mirror images of photos: what a network is asked besides them, and how its answers come back.

What a network says of a photo and of its mirror images is averaged (test-time augmentation). Mirroring keeps the size, so all of
them go through the network as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfwsss.config.data import Orientation

Mirrors = tuple[tuple[int, ...], ...]
"""For each image of a photo the axes of [B, h, w, C] along which it is reversed; the photo itself comes first, with ()."""


def mirrors(flip: bool, orientation: Orientation) -> Mirrors:
    """The photo alone; with `flip` also its mirror image, and where photos have no up those that stand on their heads."""
    if not flip:
        return ((),)
    return ((), (2,)) if orientation == "upright" else ((), (2,), (1,), (1, 2))


def with_mirrors(photos: np.ndarray, images: Mirrors) -> np.ndarray:
    """[B, h, w, C] -> [len(images) * B, h, w, C]: all photos, then all of the second image, and so on."""
    return photos if len(images) == 1 else np.concatenate([np.flip(photos, axes) for axes in images])


def mirrored_back(maps: np.ndarray, images: Mirrors) -> Sequence[np.ndarray]:
    """Maps [len(images) * B, h, w, C] in the order of `with_mirrors` -> one [B, h, w, C] for each image, all as the photo lies."""
    return [np.flip(part, axes) for part, axes in zip(np.split(maps, len(images)), images, strict=True)]
