"""Photos that are nearly the same are found; different ones, and those that show nothing, are left in peace."""

import io

import numpy as np
import pytest
from PIL import Image

from tfwsss.data.near_duplicates import ALIKE, SIDE, alike, thumbnail


def scene(seed, size=(120, 90)):
    """A photo of a few soft shapes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def changed(pixels, how):
    photo = Image.fromarray(pixels)
    if how == "recompressed":
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=40)
        return np.asarray(Image.open(file).convert("RGB"))
    if how == "smaller":
        return np.asarray(photo.resize((70, 52), Image.Resampling.BILINEAR))
    return (pixels * 0.6 + 40).astype(np.uint8)  # another exposure


@pytest.mark.parametrize("how", ["recompressed", "smaller", "exposed"])
def test_copies_are_found_among_others(how):
    photos = [scene(seed) for seed in range(300)]
    copies = [changed(photos[index], how) for index in (7, 299)]
    found = alike([thumbnail(scene(1000)), *map(thumbnail, copies), b""], list(map(thumbnail, photos)))
    assert found == [(1, 7), (2, 299)]


def test_the_rule_is_pearsons_correlation():
    first, second = ([thumbnail(scene(seed)) for seed in seeds] for seeds in (range(40), range(20, 60)))
    grey = [np.frombuffer(one, np.uint8).astype(float) for one in (*first, *second)]
    correlation = np.corrcoef(grey)[:40, 40:]
    expected = [(row, int(correlation[row].argmax())) for row in range(40) if correlation[row].max() >= ALIKE]
    assert alike(first, second) == expected == [(row, row - 20) for row in range(20, 40)]


def test_photos_that_show_nothing_are_like_none():
    plain = [thumbnail(np.full((50, 60, 3), value, np.uint8)) for value in (0, 128)]
    assert alike(plain, plain) == [] and len(plain[0]) == SIDE * SIDE
    assert alike([], plain) == [] == alike(plain, [])
