"""Files of many requests, without Triton."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.hostile.encode import png
from tests.triton.conftest import encoded
from tfwsss_onnx import ImageError, ImageSizeError, Segmenter, SegmenterError
from tfwsss_triton.photo_batch import PhotoBatch


@pytest.fixture
def segmenter(exported):
    """A Segmenter that notes the shape of each run."""
    made = Segmenter(exported(), device="cpu", max_megapixels=0.5, tile=256)
    made.runs = []
    run = made.batch

    def noted(images, cancellation=None):
        made.runs.append(images.shape[:3])
        return run(images, cancellation)

    made.batch = noted
    return made


def mask(answer: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(answer))
    assert picture.mode == "P"
    return np.asarray(picture)


def test_photos_of_one_size_run_together_and_all_are_answered_in_order(segmenter, photos, expected):
    answers = PhotoBatch(segmenter)(photos)
    assert sorted(segmenter.runs) == [(1, 40, 120), (1, 97, 33), (4, 61, 83)]
    for answer, label in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(mask(answer), label)


def test_the_colours_are_the_models(segmenter, photos):
    palette = Image.open(io.BytesIO(PhotoBatch(segmenter)(photos[:1])[0])).getpalette()
    assert palette[: segmenter.palette.size] == segmenter.palette.reshape(-1).tolist()


def test_pixels_in_one_run_are_limited(segmenter, photos):
    PhotoBatch(segmenter, most_together=2 * 61 * 83)(photos[:3])
    assert sorted(segmenter.runs) == [(1, 61, 83), (2, 61, 83)]


def test_what_is_wrong_with_one_is_nothing_to_the_others(segmenter, photos, expected):
    bad = {
        1: (b"no photo", ImageError, "not an image"),
        3: (photos[1][:200], ImageError, "cannot be decoded"),
        4: (png(20000, 20000, 8, 2, bytes(10)), ImageSizeError, "20000x20000 pixels, the limit is 0.5 megapixels"),
        5: (b"", ImageError, "no bytes"),
        6: (bytes(2000), ImageSizeError, "image: 2000 bytes, the limit is 1999"),
    }
    small = [min(photos, key=len), min(photos, key=len)]
    files = [bad[index][0] if index in bad else small.pop() for index in range(7)]
    answers = PhotoBatch(segmenter, most_file_bytes=1999)(files)
    for index, answer in enumerate(answers):
        if index in bad:
            assert isinstance(answer, bad[index][1]) and bad[index][2] in str(answer) and "\n" not in str(answer)
        else:
            np.testing.assert_array_equal(mask(answer), expected[photos.index(files[index])])


def test_a_run_that_fails_fails_its_photos_only(segmenter, photos, expected):
    run = segmenter.batch

    def failing(images, cancellation=None):
        if images.shape[1] == 61:
            raise RuntimeError("no memory left\nat line 3 of something")
        return run(images, cancellation)

    segmenter.batch = failing
    answers = PhotoBatch(segmenter)(photos)
    assert [type(answer) for answer in answers] == [SegmenterError] * 4 + [bytes] * 2
    assert str(answers[0]) == "image: cannot be segmented: no memory left"
    np.testing.assert_array_equal(mask(answers[4]), expected[4])


def test_photos_that_are_cut_into_tiles_run_alone(segmenter):
    image = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)).resize((400, 300)))
    large = encoded(image, "PNG")
    answers = PhotoBatch(segmenter)([large, large])
    assert all(shape[0] == 1 for shape in segmenter.runs)
    np.testing.assert_array_equal(mask(answers[0]), mask(answers[1]))
    np.testing.assert_array_equal(mask(answers[0]), segmenter(image))
