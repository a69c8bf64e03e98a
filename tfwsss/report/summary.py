"""Scores over several runs that differ in their seed: mean, standard deviation, and the gain within each run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tfwsss.errors import DataError
from tfwsss.report.table import ScoreTable, align_columns

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def summarize(tables: Sequence[ScoreTable]) -> str:
    """The rows of several score tables of the same experiment, as one table for a terminal.

    Every row has the mean mIoU over the runs with the sample standard deviation, the lowest and the highest, and its
    distance to the first row of the same run: mean and lowest. Points of mIoU throughout.

    Raises:
        DataError: fewer than two tables, one without scores, or tables with different rows.
    """
    if len(tables) < 2:
        raise DataError(f"found {len(tables)} score table, expected at least two runs to compare")
    steps = [(row.name, row.split) for row in tables[0].rows]
    for number, table in enumerate(tables, 1):
        found = [(row.name, row.split) for row in table.rows]
        if found != steps or not steps:
            raise DataError(f"run {number} has the rows {_names(found)}, run 1 has {_names(steps)}; expected the same experiment with other seeds")
    first = tables[0].rows[0].name
    grid = [["", "split", f"mIoU of {len(tables)} runs", "lowest", "highest", f"above {first}", "lowest"]]
    for position, (name, split) in enumerate(steps):
        scores = [100 * table.rows[position].miou for table in tables]
        if any(math.isnan(score) for score in scores):
            raise DataError(f"{name} ({split}): a run has no score there")
        gains = [score - 100 * table.rows[0].miou for score, table in zip(scores, tables, strict=True)]
        gain = [f"{statistics.mean(gains):+.1f}", f"{min(gains):+.1f}"] if position else ["", ""]
        spread = f"{statistics.mean(scores):.1f} {PLUS_MINUS} {statistics.stdev(scores):.1f}"
        grid.append([name, split, spread, f"{min(scores):.1f}", f"{max(scores):.1f}", *gain])
    return align_columns(grid, text_columns=2)


def _names(steps) -> str:
    return ", ".join(f"{name} ({split})" for name, split in steps) or "no rows"
