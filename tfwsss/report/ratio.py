"""What tags reach of what masks reach: the scores of runs beside those of their fully supervised twins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tfwsss.errors import DataError
from tfwsss.report.summary import PLUS_MINUS
from tfwsss.report.table import ScoreTable, align_columns


def compare(tables: Sequence[ScoreTable], twins: Sequence[ScoreTable]) -> str:
    """The rows that all tables have, runs beside twins, as one table for a terminal.

    Both have the mean mIoU with the sample standard deviation over their runs. The ratio is that of each run to the mean of
    the twins: its mean, its sample standard deviation over the runs, and the lowest. A single run has no deviation.

    Args:
        tables: of runs that learnt from tags, for example with different seeds.
        twins: of runs that learnt from masks, everything else equal; as many as you like.

    Raises:
        DataError: no table on one side, or no row that all of them have.
    """
    if not tables or not twins:
        raise DataError(f"found {len(tables)} runs and {len(twins)} to compare them with, expected at least one each")
    named = [{(row.name, row.split): 100 * row.miou for row in table.rows} for table in (*tables, *twins)]
    common = [step for step in named[0] if all(step in scores for scores in named)]
    if not common:
        raise DataError("the runs and those to compare them with have no row in common; have all of them scored a segmenter?")
    grid = [["", "split", f"mIoU of {len(tables)} runs", f"of {len(twins)} twins", "% of the twins", "lowest"]]
    for name, split in common:
        scores = [scores[name, split] for scores in named]
        own, supervised = scores[: len(tables)], scores[len(tables) :]
        if any(math.isnan(score) for score in scores) or statistics.mean(supervised) == 0:
            raise DataError(f"{name} ({split}): a run has no score there")
        ratios = [100 * score / statistics.mean(supervised) for score in own]
        grid.append([name, split, _spread(own), _spread(supervised), _spread(ratios), f"{min(ratios):.1f}"])
    return align_columns(grid, text_columns=2)


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} {PLUS_MINUS} {statistics.stdev(values):.1f}" if len(values) > 1 else mean
