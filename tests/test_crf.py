"""Dense CRF against the reference's arrays, an exact O(N^2) mean field, and pydensecrf."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from tfwsss.background import background_score, combine_crf
from tfwsss.config import Crf
from tfwsss.crf import ENGINES, compile_engine, crf_scores, crf_scores_of_alphas, dense_crf
from tfwsss.errors import ConfigError, DataError

GOLDEN = Path(__file__).parent / "golden"


def exact_mean_field(image, scores, parameters: Crf):
    """Float64 mean field with explicit N x N kernels, symmetrically normalised, the pixel itself included."""
    height, width, count = scores.shape
    rows, columns = np.divmod(np.arange(height * width), width)
    place = np.stack([rows, columns], axis=1).astype(np.float64)
    colour = image.reshape(-1, 3).astype(np.float64)

    def kernel(*features):
        distance = sum(((f[:, None] - f[None]) ** 2).sum(axis=-1) for f in features)
        matrix = np.exp(-0.5 * distance)
        root = np.sqrt(matrix.sum(axis=1))
        return matrix / root[:, None] / root[None]

    message = parameters.gaussian_compat * kernel(place / parameters.gaussian_sxy)
    message += parameters.bilateral_compat * kernel(place / parameters.bilateral_sxy, colour / parameters.bilateral_srgb)
    log_unary = np.log(np.clip(scores.reshape(-1, count).astype(np.float64), 1e-5, 1.0))

    def softmax(energy):
        weight = np.exp(energy - energy.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)

    marginal = softmax(log_unary)
    for _ in range(parameters.iterations):
        marginal = softmax(log_unary + message @ marginal)
    return marginal.reshape(height, width, count)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "dense_crf.npz")


@pytest.mark.golden
@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_marginals_are_the_references(golden, iterations):
    found = dense_crf(golden["image"], golden["probs"].transpose(1, 2, 0), iterations=iterations)
    expected = golden[f"Q_t{iterations}"].transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=2), expected.argmax(axis=2))
    assert found.dtype == np.float32 and found.flags["C_CONTIGUOUS"]
    by_unary = dense_crf(golden["image"], np.exp(-golden["unary"]).T.reshape(48, 64, 4), iterations=iterations)
    np.testing.assert_allclose(by_unary, expected, atol=1e-5)


@pytest.mark.golden
def test_every_kernel_parameter_reaches_the_library(golden):
    image, scores = golden["image"], golden["probs"].transpose(1, 2, 0)
    halved = dense_crf(image, scores, gaussian_sxy=3 / 2, bilateral_sxy=80 / 2)  # the reference's scale_factor = 2
    np.testing.assert_allclose(halved.transpose(2, 0, 1), golden["Q_t10_scale2"], atol=1e-5)
    for without, name in (("bilateral_compat", "gauss_only"), ("gaussian_compat", "bilateral_only")):
        found = dense_crf(image, scores, iterations=1, **{without: 0.0})
        np.testing.assert_allclose(found.transpose(2, 0, 1), golden[f"Q_t1_{name}"], atol=1e-5)
    base = dense_crf(image, scores)
    for change in ({"gaussian_compat": 1}, {"bilateral_compat": 2}, {"bilateral_srgb": 40}):
        assert np.abs(dense_crf(image, scores, **change) - base).max() > 1e-3, change


@pytest.mark.golden
@pytest.mark.parametrize("alpha", [4, 32])
def test_unnormalised_cam_scores_are_the_references(golden, alpha):
    unrefined = np.concatenate([background_score(golden["cam"], alpha)[None], golden["cam"]])
    np.testing.assert_allclose(unrefined, golden[f"scores_a{alpha}"], rtol=1e-5, atol=1e-7)
    found = crf_scores([3, 7], golden["cam"], alpha, golden["image"], Crf())
    np.testing.assert_allclose(found, golden[f"Q_a{alpha}"], atol=1e-5)


@pytest.mark.golden
def test_cams_of_a_photo_give_the_references_scores_and_labels():
    golden = np.load(GOLDEN / "multiscale_cam.npz")
    low, high = (crf_scores(golden["keys"], golden["norm_cam"], a, golden["image"], Crf()) for a in (4, 32))
    np.testing.assert_allclose(low, golden["la_crf"], atol=1e-5)
    np.testing.assert_allclose(high, golden["ha_crf"], atol=1e-5)
    label = combine_crf(low, high, golden["keys"])
    assert set(np.unique(label)) <= {*golden["crf_keys"], 255}


def test_argmax_agrees_with_an_exact_mean_field():
    rng = np.random.default_rng(0)
    height, width = 30, 40
    y, x = np.mgrid[:height, :width]
    inside = (y - 15) ** 2 + (x - 18) ** 2 < 90
    image = np.where(inside[..., None], (200, 60, 50), (70, 120, 90)) + rng.integers(-15, 16, (height, width, 3))
    image = image.clip(0, 255).astype(np.uint8)
    scores = np.stack([1 - 0.7 * inside, 0.7 * inside, np.full(inside.shape, 0.1)], axis=-1)
    scores = np.clip(scores + 0.25 * rng.standard_normal(scores.shape), 0, 1).astype(np.float32)
    parameters = Crf(bilateral_compat=4)
    found = dense_crf(image, scores, **parameters.model_dump()).argmax(axis=2)
    expected = exact_mean_field(image, scores, parameters).argmax(axis=2)
    assert (found == expected).mean() >= 0.98
    assert (found == scores.argmax(axis=2)).mean() < 0.97  # the CRF did change the picture


def test_normalising_divides_by_the_sum(golden):
    # A factor per pixel cancels in the softmax, so only scores near the clip can tell: raw 1e-2 : 1e-5 after clipping,
    # normalised 1 : 1e-4.
    image = golden["image"]
    scores = np.empty((*image.shape[:2], 2), np.float32)
    scores[...] = 1e-2, 1e-6
    scores[:, :24] = 1e-6, 1e-2
    scores[10:14, 30:34] = 1e-6, 1e-2
    weak = {"gaussian_compat": 0.1, "bilateral_compat": 0.1, "iterations": 1}
    normalised = dense_crf(image, scores, normalize=True, **weak)
    expected = dense_crf(image, scores / scores.sum(axis=2, keepdims=True), **weak)
    np.testing.assert_allclose(normalised, expected, atol=1e-7)
    assert np.abs(normalised - dense_crf(image, scores, **weak)).max() > 1e-4


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_tiny_images_and_any_number_of_labels(shape, count):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = dense_crf(image, rng.random((*shape, count)))
    assert found.shape == (*shape, count)
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)


def test_views_of_images_are_accepted(golden):
    image, scores = golden["image"], golden["probs"].transpose(1, 2, 0)
    mirrored = dense_crf(image[:, ::-1], scores[:, ::-1])
    np.testing.assert_array_equal(mirrored, dense_crf(image[:, ::-1].copy(), scores[:, ::-1].copy()))


def test_a_photo_without_classes_is_certain_background():
    image = np.zeros((4, 6, 3), np.uint8)
    scores = crf_scores([], np.zeros((0, 4, 6), np.float32), 4, image, Crf())
    np.testing.assert_array_equal(scores, np.ones((1, 4, 6)))
    np.testing.assert_array_equal(combine_crf(scores, scores, []), np.zeros((4, 6)))


@pytest.mark.parametrize(
    ("image", "scores", "message"),
    [
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 2)), "image"),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5, 2)), "image.*float32"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 2)), r"scores: expected \[4, 5, K >= 1\]"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 0)), "scores"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((2, 5, 4, 3)), "scores"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 2), np.nan), "NaN"),
    ],
)
def test_wrong_arrays_are_refused(image, scores, message):
    with pytest.raises(DataError, match=message):
        dense_crf(image, scores)


def test_maps_of_another_size_are_refused():
    with pytest.raises(DataError, match="cam"):
        crf_scores([1], np.zeros((1, 4, 4)), 4, np.zeros((8, 8, 3), np.uint8), Crf())


def test_importing_the_crf_loads_neither_tensorflow_nor_an_engine():
    code = "import sys, tfwsss.crf, tfwsss.metrics; sys.exit(not {'tensorflow', 'keras', 'numba', 'pydensecrf'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------- against pydensecrf

needs_pydensecrf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="pydensecrf, which ours is compared with, is not installed")


def pictures(height, width, kind, rng):
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "flat":
        return np.full((height, width, 3), rng.integers(0, 256), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([127 + 120 * np.sin(rows / 7 + channel) * np.cos(columns / 9) for channel in range(3)], axis=-1)
    return (waves + rng.normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8)


@needs_pydensecrf
@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    problems=st.integers(1, 3),
    labels=st.integers(2, 12),
    kind=st.sampled_from(["noise", "flat", "waves"]),
    seed=st.integers(0, 2**16),
    iterations=st.integers(0, 10),
    gaussian_sxy=st.floats(0.3, 20),
    gaussian_compat=st.floats(0, 10),
    bilateral_sxy=st.floats(0.5, 150),
    bilateral_srgb=st.floats(1, 60),
    bilateral_compat=st.floats(0, 15),
    normalize=st.booleans(),
)
@example(
    height=34, width=11, problems=2, labels=10, kind="noise", seed=1723, iterations=7, gaussian_sxy=0.3125, gaussian_compat=2.0,
    bilateral_sxy=1.0, bilateral_srgb=40.625, bilateral_compat=8.0, normalize=True,
)  # fmt: skip
def test_both_engines_agree(height, width, problems, labels, kind, seed, **parameters):
    """Within 1e-3, except where a pixel tips from one label to another: there pydensecrf itself answers rounding that strongly."""
    rng = np.random.default_rng(seed)
    image = pictures(height, width, kind, rng)
    scores = rng.random((problems, height, width, labels)) ** 3
    ours, theirs = (dense_crf(image, scores, engine=engine, **parameters) for engine in ENGINES)
    allowed = 1e-3
    if np.abs(ours - theirs).max() > allowed:
        noisy = [scores * (1 + 1e-7 * rng.standard_normal(scores.shape)) for _ in range(3)]
        allowed = 10 * max(np.abs(dense_crf(image, one, engine="pydensecrf", **parameters) - theirs).max() for one in noisy)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=allowed)
    best = np.sort(theirs, axis=-1)
    clear = best[..., -1] - best[..., -2] > 2 * allowed
    np.testing.assert_array_equal(ours.argmax(axis=-1)[clear], theirs.argmax(axis=-1)[clear])


@needs_pydensecrf
@pytest.mark.photos
@pytest.mark.skipif("TFWSSS_PHOTOS" not in os.environ, reason="TFWSSS_PHOTOS names no VOC devkit with tags.csv")
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_both_engines_agree_on_real_photos(labels):
    files = sorted((Path(os.environ["TFWSSS_PHOTOS"]) / "JPEGImages").glob("*.jpg"))[:: 40 // labels][:5]
    assert files
    rng = np.random.default_rng(labels)
    for file in files:
        image = np.asarray(Image.open(file).convert("RGB"))
        maps = np.stack([gaussian_filter(rng.standard_normal(image.shape[:2]), 25) for _ in range(labels - 1)])
        cam = np.clip(maps / maps.max(axis=(1, 2), keepdims=True), 0, 1).astype(np.float32)
        ours, theirs = (crf_scores_of_alphas(range(labels - 1), cam, (4, 32), image, Crf(engine=engine)) for engine in ENGINES)
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() >= 0.9995


def test_several_problems_are_those_one_by_one(golden):
    image, scores = golden["image"], golden["probs"].transpose(1, 2, 0)
    several = np.stack([scores, scores[..., ::-1], scores**2])
    for engine in ENGINES if find_spec("pydensecrf") else ("numba",):
        for found, one in zip(dense_crf(image, several, engine=engine), several, strict=True):
            np.testing.assert_array_equal(found, dense_crf(image, one, engine=engine))


def test_an_engine_that_is_not_there_is_named(golden, monkeypatch):
    arguments = golden["image"], golden["probs"].transpose(1, 2, 0)
    with pytest.raises(ConfigError, match="engine: found 'cuda', expected numba or pydensecrf"):
        dense_crf(*arguments, engine="cuda")
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match="pydensecrf is not installed; pip install pydensecrf2"):
        dense_crf(*arguments, engine="pydensecrf")


def test_a_kernel_too_narrow_for_the_lattice_is_refused(golden):
    with pytest.raises(DataError, match="dense CRF: a kernel of 80 pixels and 0.0001 grey levels is too narrow"):
        dense_crf(golden["image"], golden["probs"].transpose(1, 2, 0), bilateral_srgb=1e-4)


def test_read_only_arrays_are_accepted(golden):
    image, scores = golden["image"].copy(), golden["probs"].transpose(1, 2, 0).copy()
    expected = dense_crf(image, scores)
    image.flags.writeable = scores.flags.writeable = False
    for engine in ENGINES if find_spec("pydensecrf") else ("numba",):
        np.testing.assert_allclose(dense_crf(image, scores, engine=engine), expected, atol=1e-5)


def test_making_an_engine_ready():
    compile_engine()
    assert compile_engine() == compile_engine("pydensecrf") == 0
