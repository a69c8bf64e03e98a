"""A segmenter that has learnt smaller photos: large ones are made smaller for it, and masks enlarged again."""

import numpy as np
import onnx
import pytest
from PIL import Image

from tfwsss_onnx import ModelError, Segmenter
from tfwsss_onnx.http_service.batcher import Batcher

SIDE = 60


@pytest.fixture(scope="module")
def reducing(exported, tmp_path_factory):
    """reducing(name, long_side) -> path of a file of `exported` with the entry."""
    folder = tmp_path_factory.mktemp("reducing")

    def make(name: str, long_side="60"):
        model = onnx.load(exported(name))
        kept = {entry.key: entry.value for entry in model.metadata_props} | {"long_side": long_side}
        onnx.helper.set_model_props(model, kept)
        onnx.save(model, folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    return make


def small(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIDE, round(SIDE * image.shape[0] / image.shape[1])), Image.Resampling.BILINEAR))


def large(found: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Each pixel of the photo has its centre in one of the mask's."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for old, new in zip(found.shape, image.shape[:2], strict=True))
    return found[np.int64(rows)[:, None], np.int64(columns)]


def test_masks_are_those_of_the_smaller_photo(reducing, exported, photo):
    plain, segmenter = Segmenter(exported("local"), device="cpu"), Segmenter(reducing("local"), device="cpu")
    image = photo(150, 200)
    expected = large(plain(small(image)), image)
    np.testing.assert_array_equal(segmenter(image), expected)
    np.testing.assert_array_equal(segmenter.batch(np.stack([image, image]))[1], expected)
    *_, whole = segmenter.in_steps(image)
    np.testing.assert_array_equal(whole, expected)
    little = photo(30, 41)
    found = segmenter([image, little, image])
    np.testing.assert_array_equal(found[2], expected)
    np.testing.assert_array_equal(found[1], plain(little))
    assert segmenter.overlay(image, expected).size == (200, 150)


def test_nothing_is_cut_into_tiles_that_is_made_smaller(reducing, photo):
    segmenter = Segmenter(reducing("local"), device="cpu")
    assert segmenter.tile == 64 and not segmenter.is_tiled(4000, 3000)  # of stride 8
    assert segmenter.run_size(4000, 3000) == (60, 45)
    assert Segmenter(reducing("local", "null"), device="cpu").tile == 1536


def test_tiles_of_a_photo_that_is_larger_than_a_tile_even_then(reducing, exported, photo):
    image = photo(150, 200)
    plain, segmenter = Segmenter(exported("local"), device="cpu", tile=32, overlap=8), Segmenter(reducing("local"), device="cpu", tile=32, overlap=8)
    assert segmenter.is_tiled(150, 200)
    np.testing.assert_array_equal(segmenter(image), large(plain(small(image)), image))


def test_scores_and_refined_masks_are_as_large_as_the_photo(reducing, exported, photo):
    plain, segmenter = Segmenter(exported("scores"), device="cpu"), Segmenter(reducing("scores"), device="cpu")
    image = photo(150, 200)
    scores = segmenter.scores(image[None])
    assert scores.shape == (1, 150, 200, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=3), 1, atol=1e-4)
    for label in range(4):
        channel = Image.fromarray(plain.scores(small(image)[None])[0, ..., label])
        np.testing.assert_allclose(scores[0, ..., label], np.asarray(channel.resize((200, 150), Image.Resampling.BILINEAR)), atol=1e-6)
    np.testing.assert_array_equal(segmenter.refined(image, iterations=2), large(plain.refined(small(image), iterations=2), image))


def test_a_batch_counts_the_pixels_that_are_in_memory(reducing, photo):
    """Photos of a batch are put together before they are made smaller."""
    segmenter = Segmenter(reducing("local"), device="cpu")
    batcher = Batcher(segmenter, max_batch=4, max_megapixels=0.01, window_s=0.0, expected=lambda: 0, on_batch=lambda size: None)
    large, small = (type("Waiting", (), {"image": photo(*size)}) for size in ((150, 200), (60, 45)))
    assert (batcher._room(large), batcher._room(small)) == (1, 3)


@pytest.mark.parametrize("value", ["0", "-5", "[60]", "6.5", "true", "words"])
def test_a_malformed_entry_is_refused(reducing, value):
    with pytest.raises(ModelError, match="metadata 'long_side' is .* expected a number of pixels or null"):
        Segmenter(reducing("local", value), device="cpu")
