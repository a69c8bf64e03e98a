"""Runs beside their fully supervised twins."""

import math

import pytest

from tfwsss.errors import DataError
from tfwsss.report.ratio import compare
from tfwsss.report.table import ScoreRow, ScoreTable


def run(segmenter, *, tags=True):
    labels = (ScoreRow("CAM", "train", 9, 0.3, {}),) if tags else ()
    return ScoreTable((*labels, ScoreRow("segmenter", "val", 3, segmenter, {})))


def test_each_run_is_measured_against_the_mean_of_the_twins():
    text = compare([run(0.45), run(0.55), run(0.50)], [run(0.60, tags=False), run(0.65, tags=False)])
    # Of 62.5: 72, 88 and 80 %.
    assert text.splitlines() == [
        "           split  mIoU of 3 runs  of 2 twins  % of the twins  lowest",
        "segmenter  val        50.0 ± 5.0  62.5 ± 3.5      80.0 ± 8.0    72.0",
    ]


def test_single_runs_have_no_deviation():
    text = compare([run(0.45)], [run(0.60, tags=False)])
    assert text.splitlines()[1].split() == ["segmenter", "val", "45.0", "60.0", "75.0", "75.0"]


def test_what_cannot_be_compared():
    with pytest.raises(DataError, match="found 1 runs and 0 to compare them with"):
        compare([run(0.4)], [])
    with pytest.raises(DataError, match="no row in common"):
        compare([ScoreTable(run(0.4).rows[:1])], [run(0.6, tags=False)])
    for twin in (math.nan, 0.0):
        with pytest.raises(DataError, match=r"segmenter \(val\): a run has no score there"):
            compare([run(0.4)], [run(twin, tags=False)])
