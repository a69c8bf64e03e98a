"""Mirror images: there and back, and maps that do not depend on how a photo without an up lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfwsss.cam import maps_of_scale
from tfwsss.data.mirrors import mirrored_back, mirrors, with_mirrors


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.sampled_from(["upright", "any"]), st.booleans())
def test_what_is_mirrored_comes_back_as_it_was(count, height, width, orientation, flip):
    photos, images = np.random.default_rng(0).normal(size=(count, height, width, 2)), mirrors(flip, orientation)
    assert len(images) == {"upright": 2, "any": 4}[orientation] ** flip
    for back in mirrored_back(with_mirrors(photos, images), images):
        np.testing.assert_array_equal(back, photos)


@pytest.mark.parametrize(("orientation", "axes"), [("upright", [2]), ("any", [2]), ("any", [1]), ("any", [1, 2])])
def test_the_maps_of_a_mirrored_photo_are_the_mirrored_maps(orientation, axes):
    """Of a network that answers otherwise for each position: its maps rise to the right and to the bottom."""
    photos = np.random.default_rng(1).integers(0, 256, (2, 6, 9, 3), np.uint8)
    ramp = np.linspace(1, 2, 9)[:, None] * np.linspace(1, 3, 6)[:, None, None]
    maps = [maps_of_scale(lambda seen: seen * ramp, some, images=mirrors(True, orientation)) for some in (photos, np.flip(photos, axes))]
    np.testing.assert_allclose(maps[1], np.flip(maps[0], axes), rtol=1e-6)
    alone = [maps_of_scale(lambda seen: seen * ramp, some, images=mirrors(False, orientation)) for some in (photos, np.flip(photos, axes))]
    assert not np.allclose(alone[1], np.flip(alone[0], axes))
