"""Pair lists, labels, affinity and loss against the reference's arrays and against loops."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.affinity import AffinityLabels, affinity_labels, affinity_loss, pair_affinity, pair_offsets
from tfwsss.errors import DataError

GOLDEN = Path(__file__).parent / "golden"
radii = st.integers(2, 6)
seeds = st.integers(0, 2**32 - 1)


def random_labels(seed, shape):
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 20, 255], np.uint8), shape)


@pytest.mark.golden
def test_offsets_and_pair_lists_are_the_references():
    golden = np.load(GOLDEN / "neighbours_r5.npz")
    offsets = pair_offsets(int(golden["radius"]))
    np.testing.assert_array_equal(offsets, golden["offsets_dydx"])
    for height, width in ((20, 24), (9, 9), (12, 13)):
        node = np.arange(height * width).reshape(height, width)
        source = node[: height - 4, 4 : width - 4].ravel()
        target = (source + (offsets[:, :1] * width + offsets[:, 1:])).ravel()
        np.testing.assert_array_equal(source, golden[f"from_{height}x{width}"])
        np.testing.assert_array_equal(target, golden[f"to_{height}x{width}"])


@given(radii)
def test_offsets_hold_every_unordered_pair_of_the_disc_once(radius):
    offsets = [tuple(offset) for offset in pair_offsets(radius)]
    disc = {(dy, dx) for dy in range(-9, 10) for dx in range(-9, 10) if 0 < dy * dy + dx * dx < radius * radius}
    both = offsets + [(-dy, -dx) for dy, dx in offsets]
    assert len(both) == len(set(both))
    # The reference takes dy = 0 to the right only, so (0, -dx) is the mirrored half.
    assert set(both) == disc


@pytest.mark.parametrize("radius", [1, 0, -3, 2.5])
def test_wrong_radius_is_refused(radius):
    with pytest.raises(ValueError, match="radius"):
        pair_offsets(radius)


@pytest.mark.golden
@pytest.mark.parametrize("kind", [np.asarray, tf.constant, lambda label: tf.cast(label, tf.float32)])
@pytest.mark.parametrize("size", [16, 20])
def test_labels_are_the_references(kind, size):
    golden = np.load(GOLDEN / "affinity_labels.npz")
    labels = affinity_labels(kind(golden[f"label_{size}"][None]))
    for name, value in labels._asdict().items():
        value = np.asarray(value)
        assert value.shape == (1, 34, size - 4, size - 8) and value.dtype == np.float32
        np.testing.assert_array_equal(value.reshape(34, -1), golden[f"{name}_{size}"])


@settings(deadline=None, max_examples=25)
@given(st.data(), radii, seeds)
def test_labels_equal_a_loop_over_pairs(data, radius, seed):
    height = data.draw(st.integers(radius, radius + 4))
    width = data.draw(st.integers(2 * radius - 1, 2 * radius + 3))
    label = random_labels(seed, (2, height, width))
    found = affinity_labels(label, radius)
    expected = [np.zeros_like(found.neg) for _ in range(3)]
    for image in range(2):
        for index, (dy, dx) in enumerate(pair_offsets(radius)):
            for y in range(height - radius + 1):
                for x in range(radius - 1, width - radius + 1):
                    a, b = label[image, y, x], label[image, y + dy, x + dx]
                    if a == 255 or b == 255:
                        continue
                    kind = 2 if a != b else (0 if a == 0 else 1)
                    expected[kind][image, index, y, x - radius + 1] = 1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_inside_a_traced_step_with_unknown_sizes():
    traced = tf.function(affinity_labels, input_signature=[tf.TensorSpec([None, None, None], tf.uint8)])
    for shape in ((2, 5, 9), (1, 8, 12)):
        label = random_labels(3, shape)
        for one, other in zip(traced(tf.constant(label)), affinity_labels(label), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(1, 4, 9), (1, 5, 8)])
def test_a_grid_without_inner_source_is_refused(shape):
    with pytest.raises(DataError, match="5 x 9"):
        affinity_labels(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="5 x 9"):
        pair_affinity(np.zeros((*shape, 3), np.float32))


@pytest.mark.golden
def test_affinity_is_the_references():
    golden = np.load(GOLDEN / "random_walk.npz")
    features = golden["features"].transpose(0, 2, 3, 1)
    affinity = pair_affinity(features).numpy()
    assert affinity.shape == (1, 34, 16, 16)
    np.testing.assert_allclose(affinity.reshape(1, 34, -1), golden["aff"], rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 7), st.integers(1, 7), radii, seeds)
def test_full_border_equals_a_loop_over_all_pairs(height, width, radius, seed):
    features = np.random.default_rng(seed).standard_normal((2, height, width, 3)).astype(np.float32)
    found = pair_affinity(features, radius, border="full").numpy()
    expected = np.zeros((2, len(pair_offsets(radius)), height, width))
    for index, (dy, dx) in enumerate(pair_offsets(radius)):
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                distance = np.abs(features[:, y, x].astype(np.float64) - features[:, y + dy, x + dx]).mean(axis=-1)
                expected[:, index, y, x] = np.exp(-distance)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)


def test_full_border_contains_the_references_pairs():
    features = np.random.default_rng(0).standard_normal((1, 9, 14, 5)).astype(np.float32)
    full, inner = pair_affinity(features, 4, "full"), pair_affinity(features, 4, "faithful")
    np.testing.assert_array_equal(full[:, :, :6, 3:11], inner)


@pytest.mark.parametrize("border", ["faithful", "full"])
def test_gradient_of_the_features_equals_plain_differentiation(border):
    rng = np.random.default_rng(1)
    features = tf.constant(rng.standard_normal((2, 6, 9, 4)).astype(np.float32))
    pairs = pair_affinity(features, 3, border)
    weight = tf.constant(rng.standard_normal(pairs.shape).astype(np.float32))

    def plain(features):
        total = 0.0
        first_row, first_column = (0, 0) if border == "full" else (0, 2)
        for index, (dy, dx) in enumerate(pair_offsets(3)):
            for y in range(pairs.shape[2]):
                for x in range(pairs.shape[3]):
                    row, column = y + first_row + dy, x + first_column + dx
                    if row < 6 and 0 <= column < 9:
                        difference = tf.abs(features[:, y + first_row, x + first_column] - features[:, row, column])
                        affinity = tf.exp(-tf.reduce_mean(difference, axis=-1))
                        total += tf.reduce_sum(weight[:, index, y, x] * affinity)
        return total

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        found = tf.reduce_sum(weight * pair_affinity(features, 3, border))
        expected = plain(features)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(tape.gradient(found, features), tape.gradient(expected, features), rtol=1e-4, atol=1e-6)


def test_half_precision_features_give_float32_affinities():
    features = tf.cast(tf.random.stateless_normal((1, 6, 10, 8), (1, 2)), tf.float16)
    affinity = pair_affinity(features)
    assert affinity.dtype == tf.float32
    np.testing.assert_allclose(affinity, pair_affinity(tf.cast(features, tf.float32)), rtol=1e-6)


@pytest.mark.golden
def test_loss_and_gradient_are_the_references():
    golden = np.load(GOLDEN / "train_pieces.npz")
    affinity = tf.constant(golden["aff"])
    labels = AffinityLabels(golden["bg_pos"], golden["fg_pos"], golden["neg"])
    with tf.GradientTape() as tape:
        tape.watch(affinity)
        loss = affinity_loss(affinity, labels)
    np.testing.assert_allclose([float(part) for part in loss], golden["aff_losses"], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss.total, affinity), golden["aff_grad"], rtol=1e-4, atol=1e-9)


def test_loss_without_labelled_pairs_is_zero():
    empty = np.zeros((1, 34, 2, 2), np.float32)
    loss = affinity_loss(np.full(empty.shape, 0.3, np.float32), AffinityLabels(empty, empty, empty))
    assert [float(part) for part in loss] == [0, 0, 0, 0]


def test_the_gradient_adds_in_a_fixed_order():
    """TensorFlow's optimiser makes one AddN of a chain of additions, and AddN's order depends on timing."""
    from tensorflow.python.eager import context  # nothing public shows the optimised graph of a tf.function

    labels = affinity_labels(random_labels(1, (2, 9, 12)))

    @tf.function
    def gradient(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss = affinity_loss(pair_affinity(features), labels).total
        return tape.gradient(loss, features)

    context.enable_run_metadata()
    try:
        gradient(tf.constant(np.random.default_rng(0).normal(size=(2, 9, 12, 14)), tf.float32))
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    nodes = [node for graph in graphs for node in graph.node]
    assert sum(node.op == "Sub" for node in nodes) > 2 * len(pair_offsets())
    assert max((node.attr["N"].i for node in nodes if node.op == "AddN"), default=0) <= 2


def test_a_weight_of_two_is_the_photo_twice():
    rng = np.random.default_rng(2)
    affinity = tf.constant(rng.uniform(0.1, 0.9, (2, 34, 6, 6)), tf.float32)
    labels = affinity_labels(rng.choice([0, 1, 2, 255], (2, 10, 14)).astype(np.uint8))
    twice = affinity_loss(tf.gather(affinity, [0, 1, 1]), type(labels)(*(tf.gather(part, [0, 1, 1]) for part in labels)))
    np.testing.assert_allclose(affinity_loss(affinity, labels, weight=tf.constant([1.0, 2.0])), twice, rtol=1e-5)
