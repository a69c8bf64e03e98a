"""Multi-scale class activation maps against the reference's arrays and properties."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfwsss.cam import multiscale_cam, predict_label, scaled_photos, scaled_size
from tfwsss.normalization import CAFFE_VGG16, TORCH

GOLDEN = Path(__file__).parent / "golden"
ONE_SCALE = {"scales": (1.0,), "flip": False, "normalization": TORCH, "activation": "relu"}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "multiscale_cam.npz")


@pytest.mark.golden
def test_merging_is_the_references(golden):
    images, seen = golden["image"], []
    resized = {50: golden["resized_5"], 148: golden["resized_15"], 198: golden["resized_20"], 99: images}

    def maps(batch):
        position = 2 * len(seen)
        seen.append(tuple(batch.shape))
        height = batch.shape[1]
        for mirrored in (0, 1):
            assert tuple(batch.shape[1:3]) == tuple(golden[f"input_size_{position + mirrored}"])
        np.testing.assert_allclose(batch[0], TORCH(resized[height]), atol=1e-6)
        np.testing.assert_allclose(batch[1], TORCH(resized[height])[:, ::-1], atol=1e-6)
        pair = np.stack([golden[f"cam_{position}"], golden[f"cam_{position + 1}"]]).transpose(0, 2, 3, 1)
        out = np.full((*pair.shape[:3], 20), 7.0, np.float32)  # untagged classes must not matter
        out[..., golden["keys"]] = pair
        return out

    classes, cam = multiscale_cam(
        maps,
        images,
        golden["label"],
        scales=tuple(golden["scales"]),
        flip=True,
        normalization=TORCH,
        activation="relu",
    )
    assert len(seen) == 4
    assert classes.dtype == np.int32 and cam.dtype == np.float32
    np.testing.assert_array_equal(classes, golden["keys"])
    np.testing.assert_allclose(cam, golden["norm_cam"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(predict_label(classes, cam, threshold=0.2), golden["cam_pred"])


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [(99, 0.5, 50), (101, 0.5, 50), (131, 0.5, 66), (99, 1.5, 148), (1, 0.5, 1), (3, 0.1, 1)],
)
def test_sizes_round_half_to_even_and_never_vanish(size, scale, expected):
    assert scaled_size(size, size, scale) == (expected, expected)


def test_a_photo_without_tags_has_no_maps_and_needs_no_network():
    def forbidden(_):
        raise AssertionError("the network must not run")

    classes, cam = multiscale_cam(forbidden, np.zeros((5, 7, 3), np.uint8), np.zeros(4), **ONE_SCALE)
    assert classes.shape == (0,) and cam.shape == (0, 5, 7)
    np.testing.assert_array_equal(predict_label(classes, cam, threshold=0.2), np.zeros((5, 7)))


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (3, 3)])
def test_tiny_photos(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)

    def maps(batch):
        return tf.reduce_mean(batch, axis=(1, 2), keepdims=True) + 3.0

    classes, cam = multiscale_cam(
        maps,
        image,
        [0, 1, 1],
        scales=(1.0, 0.25),
        flip=True,
        normalization=TORCH,
        activation="relu",
    )
    np.testing.assert_array_equal(classes, [1, 2])
    assert cam.shape == (2, *shape)
    np.testing.assert_allclose(cam, 1, atol=1e-4)


def test_mirrored_photo_gives_the_mirrored_maps():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    kernel = tf.constant(rng.standard_normal((3, 3, 3, 2)).astype(np.float32))

    def maps(batch):
        return tf.nn.conv2d(batch, kernel, 1, "SAME")

    settings = {"scales": (1.0,), "flip": True, "normalization": CAFFE_VGG16, "activation": "relu"}
    _, cam = multiscale_cam(maps, image, [1, 1], **settings)
    _, mirrored = multiscale_cam(maps, image[:, ::-1], [1, 1], **settings)
    np.testing.assert_allclose(cam, mirrored[..., ::-1], atol=1e-5)
    _, single = multiscale_cam(maps, image, [1, 1], **{**settings, "flip": False})
    assert np.abs(single - cam).max() > 0.01


def test_activations_rectify_and_take_the_root():
    raw = tf.constant([[[[-4.0, 1.0], [4.0, 4.0]]]])
    image = np.zeros((1, 2, 3), np.uint8)
    for activation, expected in (("relu", [[0, 1], [0.25, 1]]), ("sqrt", [[0, 1], [0.5, 1]])):
        _, cam = multiscale_cam(lambda batch: raw, image, [1, 1], **{**ONE_SCALE, "activation": activation})
        np.testing.assert_allclose(cam[:, 0], expected, atol=1e-4)


def test_a_class_without_any_activation_has_a_map_of_zeros():
    raw = tf.constant([[[[-1.0, 2.0]]]])
    _, cam = multiscale_cam(lambda batch: raw, np.zeros((3, 3, 3), np.uint8), [1, 1], **ONE_SCALE)
    np.testing.assert_array_equal(cam[0], np.zeros((3, 3)))


def test_the_filter_resizes_the_photo():
    image = np.random.default_rng(2).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    for kind in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
        expected = TORCH(np.asarray(Image.fromarray(image).resize((10, 10), kind)))

        def maps(batch, expected=expected):
            np.testing.assert_allclose(batch[0], expected, atol=1e-6)
            return batch[..., :1]

        multiscale_cam(maps, image, [1], **{**ONE_SCALE, "scales": (0.5,)}, filter=kind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, "image"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "image"),
        ({"activation": "elu"}, "activation"),
        ({"scales": ()}, "scales"),
        ({"tags": [1, 0, 1]}, "maps_fn"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    arguments = {"image": np.zeros((4, 4, 3), np.uint8), "tags": [1, 1], **ONE_SCALE, **change}
    with pytest.raises(ValueError, match=message):
        multiscale_cam(lambda batch: tf.ones((1, 2, 2, 2)), **arguments)


def test_prediction_by_threshold_and_by_alpha():
    cam = np.array([[[0.1, 0.3, 0.9]], [[0.2, 0.25, 0.95]]], np.float32)
    np.testing.assert_array_equal(predict_label([2, 5], cam, threshold=0.27), [[0, 3, 6]])
    # alpha 4: background 0.8**4 = 0.41, 0.7**4 = 0.24, 0.05**4 = 0
    np.testing.assert_array_equal(predict_label([2, 5], cam, alpha=4), [[0, 3, 6]])
    np.testing.assert_array_equal(predict_label([2, 5], cam, alpha=1), [[0, 0, 6]])
    with pytest.raises(ValueError, match="exactly one"):
        predict_label([2, 5], cam)
    with pytest.raises(ValueError, match="exactly one"):
        predict_label([2, 5], cam, threshold=0.3, alpha=4)
    with pytest.raises(ValueError, match="cam"):
        predict_label([2], cam, threshold=0.3)


@pytest.mark.parametrize(("shape", "long_side", "expected"), [((60, 80), 40, [(30, 40), (15, 20)]), ((90, 30), 180, [(180, 60), (90, 30)]), ((60, 80), None, [(60, 80), (30, 40)])])
def test_the_long_side_at_scale_1(shape, long_side, expected):
    found = scaled_photos(np.zeros((*shape, 3), np.uint8), (1.0, 0.5), long_side=long_side)
    assert [one.shape[:2] for one in found] == expected
