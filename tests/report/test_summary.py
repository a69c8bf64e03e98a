"""Several runs in one table."""

import math

import pytest

from tfwsss.errors import DataError
from tfwsss.report.summary import summarize
from tfwsss.report.table import ScoreRow, ScoreTable


def run(cam, walk, val=0.5):
    return ScoreTable((ScoreRow("CAM", "train", 9, cam, {}), ScoreRow("walk", "train", 9, walk, {}), ScoreRow("segmenter", "val", 3, val, {})))


def test_mean_deviation_and_gain_within_each_run():
    # Gains are 10, 4 and 7 points: their lowest is not the difference of the lowest scores (5).
    text = summarize([run(0.40, 0.50), run(0.46, 0.50), run(0.43, 0.50, 0.56)])
    assert text.splitlines() == [
        "           split  mIoU of 3 runs  lowest  highest  above CAM  lowest",
        "CAM        train      43.0 ± 3.0    40.0     46.0",
        "walk       train      50.0 ± 0.0    50.0     50.0       +7.0    +4.0",
        "segmenter  val        52.0 ± 3.5    50.0     56.0       +9.0    +4.0",
    ]


def test_runs_that_cannot_be_compared():
    with pytest.raises(DataError, match="found 1 score table, expected at least two"):
        summarize([run(0.4, 0.5)])
    with pytest.raises(DataError, match=r"run 2 has the rows CAM \(train\), run 1 has CAM \(train\), walk \(train\)"):
        summarize([run(0.4, 0.5), ScoreTable(run(0.4, 0.5).rows[:1])])
    with pytest.raises(DataError, match="no rows"):
        summarize([ScoreTable(), ScoreTable()])
    with pytest.raises(DataError, match=r"walk \(train\): a run has no score"):
        summarize([run(0.4, 0.5), run(0.4, math.nan)])
