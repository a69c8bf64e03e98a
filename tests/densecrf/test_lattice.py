"""The lattice against a plain one with dictionaries."""

import itertools
import math

import numpy as np
import pytest

from tfwsss_densecrf.lattice import BLOCK, FIRST_CAPACITY, filter_gain, normalised_lattice


def plain_kernel(features):
    """[N, N] symmetrically normalised filter of [N, d] features, after Adams, Baek & Davis (2010), section 3, in float64."""
    count, d = features.shape
    lift = np.zeros((d, d + 1))
    for i in range(d):
        lift[i, : i + 1] = 1
        lift[i, i + 1] = -(i + 1)
        lift[i] /= math.sqrt((i + 1) * (i + 2))
    lifted = features @ lift * math.sqrt(2 / 3) * (d + 1)
    splat: list[dict] = []
    for point in lifted:
        base = np.rint(point / (d + 1)) * (d + 1)
        order = np.argsort(base - point, kind="stable")  # the largest rest first
        surplus = round(base.sum() / (d + 1))
        base[order[: max(-surplus, 0)]] += d + 1
        base[order[d + 1 - max(surplus, 0) :]] -= d + 1
        rest = np.sort((point - base) / (d + 1))[::-1]
        order = np.argsort(base - point, kind="stable")
        corners = {}
        for k in range(d + 1):
            corner = base + k
            corner[order[d + 1 - k :]] -= d + 1
            weight = 1 - rest[0] + rest[d] if k == 0 else rest[d - k] - rest[d - k + 1]
            corners[tuple(corner.astype(int))] = weight
        splat.append(corners)
    known = {corner: index for index, corner in enumerate(dict.fromkeys(itertools.chain(*splat)))}
    spread = np.zeros((len(known), count))
    for pixel, corners in enumerate(splat):
        for corner, weight in corners.items():
            spread[known[corner], pixel] = weight
    value = spread
    for axis in range(d + 1):
        blurred = value.copy()
        for corner, index in known.items():
            for sign in (1, -1):
                other = tuple(c + sign * (d if i == axis else -1) for i, c in enumerate(corner))
                if other in known:
                    blurred[index] += 0.5 * value[known[other]]
        value = blurred
    kernel = spread.T @ value / (1 + 2.0**-d)
    root = np.sqrt(kernel.sum(axis=1))
    return kernel / root[:, None] / root


def compiled_kernel(lattice):
    """[N, N] filter from the lattice's arrays."""
    count, corners = len(lattice.corners), lattice.neighbours.shape[1] + 1
    spread = np.zeros((corners, count))
    np.add.at(spread, (lattice.corners, np.arange(count)[:, None]), lattice.weights)
    value = spread
    for one, two in np.moveaxis(lattice.neighbours, 2, 1):
        blurred = np.zeros_like(value)
        blurred[1:] = value[1:] + 0.5 * (value[one] + value[two])
        value = blurred
    return spread.T @ value * filter_gain(lattice.corners.shape[1] - 1)


# Twelve columns: with full groups of four pixels the reference's filler corners do not exist.
@pytest.mark.parametrize("sxy", [0.7, 3, 40])
def test_the_kernel_of_positions_is_the_plain_one(sxy):
    rows, columns = np.mgrid[:9, :12]
    features = np.stack([columns, rows], axis=-1).reshape(-1, 2) / sxy
    np.testing.assert_allclose(compiled_kernel(normalised_lattice(9, 12, sxy)), plain_kernel(features), atol=2e-5)


@pytest.mark.parametrize(("sxy", "srgb"), [(80, 13), (5, 3), (2, 100)])
def test_the_kernel_of_positions_and_colours_is_the_plain_one(sxy, srgb):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    rows, columns = np.mgrid[:9, :12]
    features = np.concatenate([np.stack([columns, rows], axis=-1) / sxy, image / srgb], axis=-1).reshape(-1, 5)
    np.testing.assert_allclose(compiled_kernel(normalised_lattice(9, 12, sxy, image, srgb)), plain_kernel(features), atol=2e-5)


def test_a_lattice_of_many_corners_is_whole():
    """More corners than the first table holds, more pixels than a block: every weight is there, and neighbours are mutual."""
    image = np.random.default_rng(1).integers(0, 256, (60, 70, 3), np.uint8)
    lattice = normalised_lattice(60, 70, 80, image, 2)
    count = lattice.neighbours.shape[1]
    assert count > FIRST_CAPACITY and 60 * 70 > BLOCK  # the table doubled twice
    assert lattice.corners.min() == 1 and lattice.corners.max() == count
    assert (np.sort(lattice.corners, axis=1)[:, 1:] > np.sort(lattice.corners, axis=1)[:, :-1]).all()
    for one, two in np.moveaxis(lattice.neighbours, 2, 1):
        linked = np.flatnonzero(one)
        np.testing.assert_array_equal(two[one[linked] - 1], linked + 1)
        assert np.count_nonzero(one) == np.count_nonzero(two)


@pytest.mark.parametrize(("sxy", "srgb"), [(0, 13), (80, -1), (float("nan"), 13)])
def test_a_kernel_without_width_is_refused(sxy, srgb):
    with pytest.raises(ValueError, match=f"wider than 0, found {sxy:g} pixels and {srgb:g} grey levels"):
        normalised_lattice(4, 4, sxy, np.zeros((4, 4, 3), np.uint8), srgb)


@pytest.mark.parametrize(("sxy", "srgb"), [(80, 1e-4), (1e-7, 13)])
def test_a_kernel_narrower_than_the_numbers_is_refused(sxy, srgb):
    with pytest.raises(ValueError, match=f"{sxy:g} pixels and {srgb:g} grey levels is too narrow"):
        normalised_lattice(4, 4, sxy, np.zeros((4, 4, 3), np.uint8), srgb)
