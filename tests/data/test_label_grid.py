"""Grid labels against the reference's dataset items and cell-by-cell loops."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tfwsss.affinity import affinity_labels
from tfwsss.data import augment, label_grid
from tfwsss.errors import DataError
from tfwsss.normalization import TORCH
from tfwsss.storage.artifacts import load_scores, save_scores

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.golden
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_dataset_item_of_the_reference(seed):
    golden = np.load(GOLDEN / "affinity_dataset_item.npz")
    image, low, high = golden["image"], golden["la"], golden["ha"]
    rng = random.Random(seed)
    window = augment.CropWindow.random(*image.shape[:2], 128, rng)
    flip = augment.draw_flip(rng)
    np.testing.assert_array_equal(
        (window.image_left, window.canvas_top, flip), golden[f"s{seed}_img_left_cont_top_flip"]
    )

    crop = TORCH(window.crop(image, 0))
    crop = np.fliplr(crop) if flip else crop
    np.testing.assert_allclose(crop.transpose(2, 0, 1)[:, ::8, ::8], golden[f"s{seed}_img_sub8"], atol=1e-6)
    sums = crop.sum(dtype=np.float64), np.abs(crop).sum(dtype=np.float64)
    np.testing.assert_allclose(sums, golden[f"s{seed}_img_sum"], rtol=1e-6)

    scores = window.crop(np.concatenate([low, high]).transpose(1, 2, 0), 0.0)
    means = label_grid.block_mean(np.fliplr(scores) if flip else scores)
    np.testing.assert_allclose(means, golden[f"s{seed}_pooled"], atol=1e-6)
    count = len(golden["keys"])
    label = label_grid.label_of_scores(means[..., :count], means[..., count:], np.arange(count - 1))  # the channels' own indices
    np.testing.assert_array_equal(label, golden[f"s{seed}_label"])
    assert set(np.unique(label)) >= {0, 255} and label.max() == 255
    for kind, pairs in affinity_labels(label[None])._asdict().items():
        np.testing.assert_array_equal(np.reshape(pairs, (34, -1)), golden[f"s{seed}_{kind}"])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32))
def test_block_mean_equals_loops(rows, columns, channels, cell, seed):
    scores = np.random.default_rng(seed).random((rows * cell, columns * cell, channels)).astype(np.float32)
    expected = np.empty((rows, columns, channels))
    for y, x in np.ndindex(rows, columns):
        block = scores[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].astype(np.float64)
        expected[y, x] = block.mean(axis=(0, 1))
    np.testing.assert_allclose(label_grid.block_mean(scores, cell), expected, atol=1e-6)


def test_score_rule():
    """One cell per case: (low scores, high scores) -> label; channels background, class 4, class 9."""
    cases = [
        ((0.1, 0.8, 0.1), (0.1, 0.8, 0.1), 5),  # a class under both
        ((0.1, 0.1, 0.8), (0.0, 0.9, 0.1), 10),  # which class: the low map says
        ((0.9, 0.1, 0.0), (0.9, 0.1, 0.0), 0),  # background under both
        ((0.9, 0.1, 0.0), (0.1, 0.9, 0.0), 255),  # undecided
        ((0.1, 0.9, 0.0), (0.9, 0.1, 0.0), 0),  # background under the high alpha overrides
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 255),  # outside the photo
    ]
    low, high, expected = (np.array(column) for column in zip(*cases, strict=True))
    np.testing.assert_array_equal(label_grid.label_of_scores(low[None], high[None], np.array([4, 9]))[0], expected)


def brute_majority(label, cell):
    result = np.empty((label.shape[0] // cell, label.shape[1] // cell), np.uint8)
    for y, x in np.ndindex(result.shape):
        votes = Counter(label[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell].ravel().tolist())
        ignored = votes.pop(255, 0)
        ranking = votes.most_common(2)
        tied = len(ranking) == 2 and ranking[0][1] == ranking[1][1]
        result[y, x] = 255 if ignored * 2 > cell * cell or tied else ranking[0][0]
    return result


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 4).flatmap(
        lambda cell: st.tuples(
            st.just(cell),
            st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
                lambda grid: npst.arrays(
                    np.uint8, (grid[0] * cell, grid[1] * cell), elements=st.sampled_from([0, 1, 7, 254, 255])
                )
            ),
        )
    )
)
def test_majority_equals_counting(case):
    cell, label = case
    np.testing.assert_array_equal(label_grid.majority_label(label, cell), brute_majority(label, cell))


def test_majority_at_its_limits():
    label = np.full((8, 8), 255, np.uint8)
    label[:4] = 3
    assert label_grid.majority_label(label) == 3  # half ignored is not more than half
    label[0, 0] = 255
    assert label_grid.majority_label(label) == 255
    label = np.full((8, 8), 2, np.uint8)
    label[:, :4] = 1
    assert label_grid.majority_label(label) == 255
    label[0, 4] = 1
    assert label_grid.majority_label(label) == 1


def test_sides_must_be_multiples_of_the_cell():
    with pytest.raises(ValueError, match="multiples of 8, found 16 x 20"):
        label_grid.majority_label(np.zeros((16, 20), np.uint8))
    with pytest.raises(ValueError, match="multiples of 8, found 12 x 16"):
        label_grid.block_mean(np.zeros((12, 16, 2), np.float32))


def test_scores_survive_the_file(tmp_path):
    rng = np.random.default_rng(0)
    low, high = rng.random((2, 3, 11, 13))
    save_scores(tmp_path, "farm/cow 1", [2, 5], low, high)
    classes, low_read, high_read = load_scores(tmp_path, "farm/cow 1")
    np.testing.assert_array_equal(classes, [2, 5])
    assert low_read.dtype == high_read.dtype == np.float32
    np.testing.assert_allclose(low_read, low, atol=5e-4)
    np.testing.assert_allclose(high_read, high, atol=5e-4)
    assert [path.name for path in (tmp_path / "farm").iterdir()] == ["cow 1.npz"]
    with pytest.raises(DataError, match="does not stay inside"):
        save_scores(tmp_path, "../outside", [2, 5], low, high)
