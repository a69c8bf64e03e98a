"""Random walk against the reference's arrays and float64 matrix powers."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss import randomwalk, stencil
from tfwsss.affinity import pair_affinity, pair_offsets
from tfwsss.errors import DataError
from tfwsss.pseudolabel import pseudo_label, walk_input
from tfwsss.randomwalk import chebyshev_coefficients, random_walk

GOLDEN = Path(__file__).parent / "golden"
# Every way to compute the walk; without `engine` the one that is chosen for this machine.
METHODS = (
    {"method": "dense"},
    {"method": "sparse"},
    {"method": "chebyshev", "engine": "tensorflow"},
    {"method": "chebyshev", "engine": "stencil"},
)
IN_GRAPH = ({"method": "dense"}, {"method": "sparse"}, {"method": "chebyshev"})
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "random_walk.npz")


def matrix_by_loop(affinity, height, width, radius, border):
    """W without the power, float64 [N, N], one image."""
    matrix = np.eye(height * width)
    for index, (dy, dx) in enumerate(pair_offsets(radius)):
        for y in range(height):
            for x in range(width):
                if border == "faithful":
                    if y >= height - radius + 1 or not radius - 1 <= x < width - radius + 1:
                        continue
                    value = affinity[index, y, x - radius + 1]
                elif y + dy < height and 0 <= x + dx < width:
                    value = affinity[index, y, x]
                else:
                    continue
                one, other = y * width + x, (y + dy) * width + x + dx
                matrix[one, other] = matrix[other, one] = value
    return matrix


def exact_walk(affinity, cam, radius, beta, steps, border):
    """float64: P**steps @ x."""
    height, width, channels = cam.shape
    weights = matrix_by_loop(np.asarray(affinity, np.float64), height, width, radius, border) ** beta
    power = np.linalg.matrix_power(weights / weights.sum(axis=1, keepdims=True), steps)
    return (power @ cam.reshape(-1, channels).astype(np.float64)).reshape(cam.shape)


def random_affinity(rng, shape, kind):
    value = rng.random(shape)
    if kind == "binary":
        value = (value < 0.4).astype(np.float64)
    elif kind == "ones":
        value[:] = 1
    elif kind == "strong":
        value = 0.8 + 0.2 * value
    return value.astype(np.float32)


def affinity_shape(height, width, radius, border):
    pairs = len(pair_offsets(radius))
    if border == "full":
        return pairs, height, width
    return pairs, height - radius + 1, width - 2 * radius + 2


@pytest.mark.golden
def test_transition_matrix_and_its_power_are_the_references(golden):
    affinity = tf.constant(golden["aff"].reshape(34, 16, 16))
    graph = randomwalk._graph(20, 24, 5, "faithful")
    transition = randomwalk.transition_matrix(randomwalk._weights(affinity, graph, 8.0, check=True), graph)
    np.testing.assert_allclose(transition, golden["trans1"], rtol=1e-5, atol=1e-9)
    identity = tf.eye(480)
    power = randomwalk._walk_dense(graph, randomwalk._weights(affinity, graph, 8.0, check=True), identity, 256)
    np.testing.assert_allclose(tf.transpose(power), golden["trans256"], atol=1e-5)
    weights = randomwalk._weights(affinity, graph, 1.0, check=True)
    np.testing.assert_allclose(tf.scatter_nd(graph.indices, weights, [480, 480]), golden["aff_dense"], atol=1e-6)


@pytest.mark.golden
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 8, 256])
def test_walk_is_the_references(golden, method, steps):
    affinity = golden["aff"].reshape(1, 34, 16, 16)
    cam = golden["cam_vec"].T.reshape(1, 20, 24, 4)
    found = random_walk(affinity, cam, steps=steps, border="faithful", **method)
    expected = golden[f"rw_t{steps}"]
    np.testing.assert_allclose(found[0].numpy().transpose(2, 0, 1), expected, atol=1e-5 * max(1, expected.max()))


@pytest.mark.golden
@pytest.mark.parametrize("method", METHODS)
def test_pseudo_label_of_a_photo_is_the_references(golden, method):
    features = golden["features"].transpose(0, 2, 3, 1)
    radius, beta, doublings, alpha, height, width, *grid = golden["params"].tolist()
    channels = walk_input(golden["cams"], [alpha])
    assert channels.shape == (len(golden["channels"]), *grid)
    np.testing.assert_allclose(channels.reshape(4, 480), golden["cam_vec"], atol=1e-6)
    scores = channels.transpose(1, 2, 0)[None]
    affinity = pair_affinity(features, radius)
    walked = random_walk(affinity, scores, beta=beta, steps=2**doublings, radius=radius, border="faithful", **method)
    photo = np.zeros((height, width, 3), np.uint8)
    label = pseudo_label(golden["cam_keys"], walked[0].numpy().transpose(2, 0, 1), photo, crf=None)
    np.testing.assert_array_equal(label, golden["pred"])
    assert set(np.unique(label)) <= set(golden["channels"])


@pytest.mark.golden
@pytest.mark.parametrize("method", METHODS)
def test_cells_without_neighbours_keep_their_score(golden, method):
    isolated = golden["isolated_nodes"]
    cam = np.random.default_rng(0).random((1, 20, 24, 3)).astype(np.float32)
    faithful = random_walk(golden["aff"].reshape(1, 34, 16, 16), cam, border="faithful", **method)
    kept = np.flatnonzero(np.isclose(faithful.numpy(), cam, rtol=0, atol=1e-6).all(axis=-1).ravel())
    np.testing.assert_array_equal(kept, isolated)
    features = golden["features"].transpose(0, 2, 3, 1)
    full = random_walk(pair_affinity(features, border="full"), cam, **method)
    assert np.abs(full.numpy() - cam).reshape(480, 3).max(axis=1).min() > 1e-4  # every cell takes part


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    radius=st.integers(2, 5),
    border=st.sampled_from(["full", "faithful"]),
    method=st.sampled_from(METHODS),
    kind=st.sampled_from(["random", "binary", "ones", "strong"]),
    beta=st.sampled_from([0.5, 1.0, 8.0]),
    steps=st.sampled_from([0, 1, 2, 3, 7, 64, 100]),
    seed=seeds,
)
def test_walk_equals_a_float64_matrix_power(data, radius, border, method, kind, beta, steps, seed):
    smallest = (radius, 2 * radius - 1) if border == "faithful" else (1, 1)
    height = data.draw(st.integers(smallest[0], smallest[0] + 5))
    width = data.draw(st.integers(smallest[1], smallest[1] + 5))
    rng = np.random.default_rng(seed)
    affinity = random_affinity(rng, (2, *affinity_shape(height, width, radius, border)), kind)
    cam = rng.standard_normal((2, height, width, 3)).astype(np.float32)
    found = random_walk(affinity, cam, radius=radius, beta=beta, steps=steps, border=border, **method)
    assert found.shape == cam.shape and found.dtype == tf.float32
    for image in range(2):
        expected = exact_walk(affinity[image], cam[image], radius, beta, steps, border)
        np.testing.assert_allclose(found[image], expected, atol=2e-5 * np.abs(cam[image]).max())


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("steps", [2, 5, 16, 63, 256])
@pytest.mark.parametrize("kind", ["random", "binary", "ones"])
@pytest.mark.parametrize("engine", ["tensorflow", "stencil"])
def test_chebyshev_keeps_its_tolerance_for_the_worst_scores(engine, steps, tolerance, kind):
    # Not one cam but all: with the unit vectors as channels the result is the error matrix itself, and the largest
    # absolute row sum is the largest error that any scores in -1..1 can have.
    height, width = 8, 14
    affinity = random_affinity(np.random.default_rng(steps), (1, 34, height, width), kind)
    unit = np.eye(height * width, dtype=np.float32).reshape(1, height, width, -1)
    found = random_walk(affinity, unit, beta=1.0, steps=steps, method="chebyshev", tolerance=tolerance, engine=engine)[0]
    expected = exact_walk(affinity[0], unit[0], 5, 1.0, steps, "full")
    worst = np.abs(found.numpy().astype(np.float64) - expected).sum(axis=-1).max()
    assert worst <= tolerance + 1e-7  # the float32 rounding of the result


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 16, 17, 256, 1000])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-12])
def test_chebyshev_series_approximates_the_power_on_the_whole_interval(steps, tolerance):
    x = np.linspace(-1, 1, 4001)
    coefficients = chebyshev_coefficients(steps, tolerance)
    error = np.abs(np.polynomial.chebyshev.chebval(x, coefficients) - x**steps).max()
    assert error <= tolerance + 1e-13
    assert coefficients.sum() == pytest.approx(1, abs=1e-14)
    assert len(coefficients) - 1 <= min(steps, math.ceil(math.sqrt(2 * steps * math.log(4 / tolerance))) + 2)


def test_chebyshev_needs_fewer_products_than_steps():
    tolerance = randomwalk.polynomial_tolerance(1e-5, 47 * 63, 5)
    assert len(chebyshev_coefficients(256, tolerance)) < 100


def test_pairs_that_leave_the_grid_are_ignored():
    rng = np.random.default_rng(3)
    affinity, cam = random_affinity(rng, (1, 34, 6, 7), "random"), rng.random((1, 6, 7, 2)).astype(np.float32)
    valid = randomwalk.valid_pairs(6, 7, 5)
    garbage = np.where(valid, affinity, np.nan).astype(np.float32)
    for method in METHODS:
        np.testing.assert_array_equal(
            random_walk(garbage, cam, **method), random_walk(affinity, cam, **method)
        )


@pytest.mark.parametrize("method", IN_GRAPH)
def test_walk_inside_a_traced_function_with_an_unknown_batch(method):
    rng = np.random.default_rng(4)
    affinity = random_affinity(rng, (3, 34, 6, 10), "random")
    cam = rng.random((3, 6, 10, 2)).astype(np.float32)
    signature = [tf.TensorSpec([None, 34, 6, 10]), tf.TensorSpec([None, 6, 10, 2])]
    traced = tf.function(lambda a, c: random_walk(a, c, steps=32, **method), input_signature=signature)
    expected = random_walk(affinity, cam, steps=32, **method)
    np.testing.assert_allclose(traced(affinity, cam), expected, atol=1e-6)
    fixed = tf.function(lambda a, c: random_walk(a, c, steps=32, **method))
    np.testing.assert_allclose(fixed(affinity, cam), expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_impossible_affinities_are_refused(method, value):
    affinity = np.full((1, 34, 6, 9), 0.5, np.float32)
    affinity[0, 0, 2, 3] = value
    with pytest.raises(DataError, match="affinity"):
        random_walk(affinity, np.zeros((1, 6, 9, 2), np.float32), **method)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "magic"}, ValueError, "magic"),
        ({"engine": "magic"}, ValueError, "magic"),
        ({"border": "wrap"}, ValueError, "wrap"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, ValueError, "steps"),
        ({"beta": 0}, ValueError, "beta"),
        ({"tolerance": 0}, ValueError, "tolerance"),
        ({"radius": 4}, ValueError, r"affinity: expected \[B, 22, 6, 9\]"),
        ({"border": "faithful"}, ValueError, r"affinity: expected \[B, 34, 2, 1\]"),
        ({"cam": np.zeros((2, 6, 9, 2))}, ValueError, "1 images, cam 2"),
        ({"cam": np.zeros((6, 9, 2))}, ValueError, "cam"),
        ({"cam": np.full((1, 6, 9, 2), np.nan)}, DataError, "NaN"),
        ({"cam": np.zeros((1, 4, 9, 2)), "border": "faithful"}, DataError, "5 x 9"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    arguments = {"affinity": np.full((1, 34, 6, 9), 0.5), "cam": np.zeros((1, 6, 9, 2)), **change}
    with pytest.raises(error, match=message):
        random_walk(**arguments)


def test_the_stencil_does_not_run_inside_a_traced_function():
    affinity, cam = np.full((1, 34, 6, 9), 0.5, np.float32), np.zeros((1, 6, 9, 2), np.float32)
    with pytest.raises(ValueError, match="inside a tf.function"):
        tf.function(lambda: random_walk(affinity, cam, engine="stencil"))()


def test_photos_walk_at_the_same_time_with_the_same_result():
    rng = np.random.default_rng(5)
    affinity = random_affinity(rng, (8, 34, 20, 30), "strong")
    cam = rng.random((8, 20, 30, 3)).astype(np.float32)
    expected = [stencil.walk(a, c, radius=5, beta=8.0, coefficients=chebyshev_coefficients(256, 1e-8)) for a, c in zip(affinity, cam, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        walks = [pool.submit(stencil.walk, a, c, radius=5, beta=8.0, coefficients=chebyshev_coefficients(256, 1e-8)) for a, c in zip(affinity, cam, strict=True)]
    for walk, one in zip(walks, expected, strict=True):
        np.testing.assert_array_equal(walk.result(), one)
