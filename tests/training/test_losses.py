"""Losses against the reference's arrays and against loops in float64."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.training.losses import (
    PIXEL_LOSSES,
    balanced_cross_entropy,
    multilabel_soft_margin,
    ohem_cross_entropy,
    segmentation_cross_entropy,
)

GOLDEN = Path(__file__).parents[1] / "golden"
seeds = st.integers(0, 2**32 - 1)


def random_pixels(seed, ignored=0.3):
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal((2, 5, 6, 4))).astype(np.float32)
    label = rng.integers(0, 4, (2, 5, 6)).astype(np.uint8)
    label[rng.random(label.shape) < ignored] = 255
    return logits, label


def pixel_losses(logits, label):
    """Cross entropy of every labelled pixel in float64."""
    losses = []
    for scores, true in zip(logits.reshape(-1, 4).astype(np.float64), label.ravel(), strict=True):
        if true != 255:
            losses.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[true])
    return np.array(losses)


@pytest.mark.golden
def test_classifier_loss_and_gradient_are_the_references():
    golden = np.load(GOLDEN / "train_pieces.npz")
    logits = tf.constant(golden["cls_logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = multilabel_soft_margin(logits, golden["cls_targets"])
    np.testing.assert_allclose(loss, golden["cls_loss"], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, logits), golden["cls_grad"], rtol=1e-5, atol=1e-9)


def test_losses_are_finite_for_extreme_logits():
    logits = tf.constant([[1e4, -1e4]])
    assert float(multilabel_soft_margin(logits, [[1, 0]])) == 0
    np.testing.assert_allclose(multilabel_soft_margin(logits, [[0, 1]]), 1e4)


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_segmentation_loss_equals_a_loop(seed):
    logits, label = random_pixels(seed)
    losses = pixel_losses(logits, label)
    np.testing.assert_allclose(segmentation_cross_entropy(logits, label), losses.mean(), rtol=1e-5)


def test_segmentation_loss_and_gradient_are_those_of_the_sparse_form():
    """TensorFlow's own operation, in float32 to rounding."""
    logits, label = random_pixels(3, ignored=0.0)
    found, expected = tf.Variable(logits), tf.Variable(logits)
    with tf.GradientTape(persistent=True) as tape:
        loss = segmentation_cross_entropy(found, label)
        sparse = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label.astype(np.int32), expected))
    np.testing.assert_allclose(loss, sparse, rtol=2e-7)
    np.testing.assert_allclose(tape.gradient(loss, found), tape.gradient(sparse, expected), rtol=1e-5, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seeds, st.sampled_from([0.0, 0.3, 0.9]))
def test_balanced_loss_equals_a_loop(seed, background):
    """Background and foreground weigh the same however many pixels they have."""
    logits, label = random_pixels(seed)
    label[np.random.default_rng(seed + 1).random(label.shape) < background] = 0
    losses, true = pixel_losses(logits, label), label[label != 255]
    halves = [losses[part].mean() if part.any() else 0.0 for part in (true == 0, true != 0)]
    np.testing.assert_allclose(balanced_cross_entropy(logits, label), sum(halves) / 2, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from([1, 5, 20, 256]), st.sampled_from([0.05, 0.6]))
def test_ohem_keeps_the_hard_pixels(seed, min_kept, probability):
    logits, label = random_pixels(seed)
    losses = pixel_losses(logits, label)
    probabilities = np.exp(-losses)
    limit = max(probability, np.sort(probabilities)[min(min_kept, len(losses)) - 1])
    expected = losses[probabilities <= limit * (1 + 1e-9)].mean()
    found = ohem_cross_entropy(logits, label, probability=probability, min_kept=min_kept)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", PIXEL_LOSSES.values())
def test_ignored_pixels_give_no_gradient(loss):
    logits, label = random_pixels(0)
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits, label)
    gradient = tape.gradient(value, logits).numpy()
    assert (gradient[label == 255] == 0).all()
    assert np.abs(gradient[label != 255]).max() > 0


@pytest.mark.parametrize("loss", PIXEL_LOSSES.values())
def test_everything_ignored_is_zero_with_zero_gradient(loss):
    logits = tf.ones((1, 3, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits, np.full((1, 3, 3), 255, np.uint8))
    assert float(value) == 0
    assert (tape.gradient(value, logits).numpy() == 0).all()


def test_half_precision_logits_are_computed_in_float32():
    logits, label = random_pixels(1)
    half = tf.cast(logits, tf.float16)
    loss = segmentation_cross_entropy(half, label)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, pixel_losses(half.numpy(), label).mean(), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_unknown_tags_have_no_loss_and_no_gradient(seed):
    rng = np.random.default_rng(seed)
    values, tags, known = 3 * rng.standard_normal((5, 4)), rng.random((5, 4)) < 0.5, rng.random((5, 4)) < 0.7
    logits = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = multilabel_soft_margin(logits, tags, known=known)
    probability = 1 / (1 + np.exp(-values))
    each = -np.where(tags, np.log(probability), np.log(1 - probability))
    np.testing.assert_allclose(loss, each[known].mean() if known.any() else 0.0, rtol=1e-5, atol=1e-7)
    assert not tape.gradient(loss, logits).numpy()[~known].any()
    # Where all is known it is the loss of before, to the last bit.
    assert multilabel_soft_margin(logits, tags, known=np.ones_like(known)).numpy() == multilabel_soft_margin(logits, tags).numpy()


@pytest.mark.parametrize("loss", PIXEL_LOSSES.values(), ids=PIXEL_LOSSES)
def test_a_weight_of_two_is_the_photo_twice(loss):
    logits, label = random_pixels(5)
    twice = loss(logits[[0, 1, 1]], label[[0, 1, 1]])
    np.testing.assert_allclose(loss(logits, label, weight=tf.constant([1.0, 2.0])), twice, rtol=1e-5)
    np.testing.assert_allclose(loss(logits, label, weight=tf.constant([1.0, 1.0])), loss(logits, label), rtol=1e-6)
    np.testing.assert_allclose(loss(logits, label, weight=tf.constant([3.0, 3.0])), loss(logits, label), rtol=1e-5)
