"""Run lengths of CVAT and Label Studio: any mask comes back, and what is no mask is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfwsss.data.run_lengths import brush_of, mask_of_brush, mask_of_runs, runs_of

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(MASKS)
def test_runs_come_back(mask):
    runs = runs_of(mask)
    flat, at = [], 0
    for run in runs:  # as CVAT describes them: background first, in turn
        flat += [at % 2 == 1] * run
        at += 1
    np.testing.assert_array_equal(np.reshape(flat, mask.shape), mask)
    assert all(run > 0 for run in runs[1:])
    np.testing.assert_array_equal(mask_of_runs(runs, *mask.shape), mask)


@given(MASKS)
def test_brushes_come_back(mask):
    brush = brush_of(mask)
    assert all(0 <= byte <= 255 for byte in brush)
    np.testing.assert_array_equal(mask_of_brush(brush, *mask.shape), mask)


@pytest.mark.parametrize("shape", [(1, 1), (300, 400), (1, 16384), (1, 16385)])
def test_long_runs_are_split(shape):
    for mask in (np.ones(shape, bool), np.zeros(shape, bool)):
        np.testing.assert_array_equal(mask_of_brush(brush_of(mask), *shape), mask)


@settings(max_examples=50)
@given(mask=MASKS, word=st.integers(1, 16), sizes=st.lists(st.integers(1, 16), min_size=4, max_size=4), data=st.data())
def test_brushes_of_any_writer_are_read(mask, word, sizes, data):
    """Runs of any length in any of the four sizes, repeated values or single ones, words of any width: the form allows all."""
    values = np.repeat(mask.ravel(), 4)
    bits, at = [f"{values.size:032b}{word - 1:05b}", *(f"{size - 1:04b}" for size in sizes)], 0
    while at < values.size:
        which = data.draw(st.integers(0, 3))
        same = data.draw(st.booleans())
        length = data.draw(st.integers(1, min(1 << sizes[which], values.size - at)))
        if same and (values[at : at + length] != values[at]).any():
            same = False
        bits.append(f"{int(same)}{which:02b}{length - 1:0{sizes[which]}b}")
        bits += [f"{int(value):0{word}b}" for value in values[at : at + (1 if same else length)]]
        at += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    brush = [int(text[start : start + 8], 2) for start in range(0, len(text), 8)]
    np.testing.assert_array_equal(mask_of_brush(brush, *mask.shape), mask)


@pytest.mark.parametrize("runs", [[], [5], [3, 4], [-1, 7], [10**30]])
def test_runs_that_are_no_mask(runs):
    with pytest.raises(ValueError, match="do not add up to 3x2 pixels"):
        mask_of_runs(runs, 2, 3)


GOOD = brush_of(np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    ("brush", "message"),
    [
        ([], "list of bytes"),
        ([[1]], "list of bytes"),
        ([256], "list of bytes"),
        ([-1], "list of bytes"),
        ([0.5], "list of bytes"),
        (["a"], "list of bytes"),
        ([255] * 40, "expected 4 for each of 4x4 pixels"),
        (GOOD[:3], "ends early"),
        (GOOD[:-3], "ends early"),
    ],
)
def test_brushes_that_are_no_mask(brush, message):
    with pytest.raises(ValueError, match=message):
        mask_of_brush(brush, 4, 4)


@given(st.lists(st.integers(0, 255), max_size=60))
def test_any_bytes_are_a_mask_or_refused(tail):
    head = GOOD[:7]  # a size that fits
    try:
        assert mask_of_brush([*head, *tail], 4, 4).shape == (4, 4)
    except ValueError:
        pass
