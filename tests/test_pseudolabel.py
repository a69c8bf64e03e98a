"""From CAMs to the grid of the walk, and from walked scores to labels."""

import numpy as np
import pytest

from tfwsss.config import LabelCrf
from tfwsss.crf import dense_crf
from tfwsss.errors import DataError
from tfwsss.metrics import ConfusionMatrix, LabelSweep
from tfwsss.pseudolabel import exponents_won, from_grid, label_of_scores, pseudo_label, walk_input
from tfwsss.randomwalk import random_walk

CLASSES = np.array([3, 8])


@pytest.fixture
def photo():
    """A square of another colour, and walked scores that claim a little more than it."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (40, 48, 3), np.uint8)
    image[8:24, 8:24] = rng.integers(180, 200, (16, 16, 3), np.uint8)
    walked = np.full((3, 5, 6), 0.3, np.float32)
    walked[0] += 0.02
    walked[1, 1:4, 1:4] += 0.05
    return image, walked


def test_every_pixel_votes_for_its_label_with_the_confidence(photo):
    image, walked = photo
    crf = LabelCrf(confidence=0.7)
    plain = pseudo_label(CLASSES, walked, image, None)
    votes = np.empty((40, 48, 3), np.float32)
    for row, column in np.ndindex(40, 48):
        for channel, label in enumerate((0, 4, 9)):
            votes[row, column, channel] = 0.7 if plain[row, column] == label else 0.15
    settings = {name: value for name, value in crf.model_dump().items() if name != "confidence"}
    expected = np.array([0, 4, 9], np.uint8)[dense_crf(image, votes, **settings).argmax(axis=2)]
    found = pseudo_label(CLASSES, walked, image, crf)
    np.testing.assert_array_equal(found, expected)
    assert (found != plain).sum() > 50
    # Only labels count, not how far apart their scores are.
    np.testing.assert_array_equal(pseudo_label(CLASSES, walked**3, image, crf), pseudo_label(CLASSES, (walked**3) * 0.1, image, crf))


def test_the_kernel_is_that_of_irn():
    kernel = LabelCrf().model_dump(exclude={"confidence"})
    assert list(kernel.values()) == [10, 3, 3, 50, 5, 10, "numba"]  # iterations, then Gaussian and bilateral widths and weights


def test_a_photo_without_classes_stays_background(photo):
    image, walked = photo
    assert not pseudo_label(np.array([], int), walked[:1], image, LabelCrf()).any()


@pytest.mark.parametrize("classes", [[0, 3], [1], []])
def test_one_number_a_pixel_says_the_labels_at_all_exponents(classes):
    """Against walking and choosing the strongest channel at each exponent by itself."""
    rng, alphas = np.random.default_rng(len(classes)), (4.0, 1.0, 2.0, 8.0, 32.0)
    affinity = rng.random((1, 34, 6, 9)).astype(np.float32)
    strength = np.linspace(0, 1, 70) * rng.uniform(0.6, 1, (len(classes), 45, 1))
    channels = walk_input(strength, alphas)
    walked = random_walk(affinity, channels.transpose(1, 2, 0)[None], steps=4)[0].numpy().transpose(2, 0, 1)
    backgrounds, foreground = walked[: len(alphas)], walked[len(alphas) :]
    mask = rng.choice([0, 1, 2, 4, 255], (45, 70))
    won = exponents_won(backgrounds, foreground, 45, 70)
    winner = label_of_scores(classes, from_grid(np.concatenate([np.full((1, 6, 9), -1.0, np.float32), foreground]), 45, 70))
    matrices = LabelSweep(5, len(alphas)).add(mask, winner, won).matrices()
    for alpha, found in zip(sorted(alphas, reverse=True), matrices, strict=True):
        label = label_of_scores(classes, from_grid(np.concatenate([backgrounds[alphas.index(alpha)][None], foreground]), 45, 70))
        np.testing.assert_array_equal(found.counts, ConfusionMatrix(5).update(mask, label).counts)
    assert len(np.unique(won)) > 2 if classes else not won.any()


def test_what_a_sweep_cannot_count_is_refused():
    label = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match="kept: expected 0..3, found 4"):
        LabelSweep(2, 3).add(label, label, label + 4)
    with pytest.raises(DataError, match="kept"):
        LabelSweep(2, 3).add(label, label, label[:1])
