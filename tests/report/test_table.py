import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tfwsss.errors import DataError
from tfwsss.report.table import ScoreRow, ScoreTable, percent

NAN = math.nan
SMALL = ScoreTable(
    (
        ScoreRow("CAM", "train", 300, 0.4812, {"background": 0.75, "cat": 0.2}),
        ScoreRow("walk + CRF", "train", 300, 0.6034, {"background": 0.81, "cat": 0.4}),
        ScoreRow("segmenter", "val", 1, 1.0, {"background": 1.0, "cat": NAN}),
    )
)

values = st.one_of(st.just(NAN), st.floats(0, 1))
names = st.text(max_size=12)
tables = st.lists(
    st.builds(ScoreRow, name=names, split=names, images=st.integers(0, 10**7), miou=values, per_class=st.dictionaries(names, values, max_size=6)), max_size=8
).map(lambda rows: ScoreTable(tuple(rows)))


def same(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def test_text_layout():
    assert SMALL.text().splitlines() == [
        "            split  images   mIoU",
        "CAM         train     300   48.1",
        "walk + CRF  train     300   60.3",
        "segmenter   val         1  100.0",
        "",
        "IoU per class   CAM  walk + CRF  segmenter",
        "background     75.0        81.0      100.0",
        "cat            20.0        40.0          -",
    ]


def test_steps_that_do_not_fit_continue_below():
    assert SMALL.text(width=35).splitlines()[5:] == [
        "IoU per class   CAM  walk + CRF",
        "background     75.0        81.0",
        "cat            20.0        40.0",
        "",
        "IoU per class  segmenter",
        "background         100.0",
        "cat                    -",
    ]


def test_without_rows():
    assert ScoreTable().text() == "  split  images  mIoU"
    assert ScoreTable().headline() == "Nothing was scored: the data set has no masks."
    assert ScoreTable.from_dict(ScoreTable().to_dict()) == ScoreTable()


def test_headline_goes_from_the_first_row_to_the_best_of_each_split():
    assert SMALL.headline() == (
        "On 300 train images, mIoU rises from 48.1 (CAM) to 60.3 (walk + CRF), +12.2 points. On 1 val image, segmenter reaches 100.0 mIoU."
    )


def test_headline_when_nothing_beats_the_first_row():
    table = ScoreTable((ScoreRow("CAM", "train", 2000, 0.5, {}), ScoreRow("walk", "train", 2000, 0.4, {}), ScoreRow("x", "val", 1, NAN, {})))
    assert table.headline() == "On 2,000 train images, CAM reaches 50.0 mIoU."


def test_control_characters_do_not_reach_the_terminal():
    table = ScoreTable((ScoreRow("\x1b[31mCAM", "train", 1, 0.5, {"a\nb\x9b": 0.5}),))
    text = table.text()
    assert "\x1b" not in text and "\x9b" not in text
    assert len(text.splitlines()) == 5  # two, a blank line, two: the line break in the class name made no further line


def test_wide_characters_stay_aligned():
    table = ScoreTable((ScoreRow("CAM", "train", 1, 0.5, {"犬": 0.25, "cat": 1.0}),))
    lines = table.text().splitlines()[3:]
    assert {cell_len(line) for line in lines} == {len("IoU per class") + 2 + len("100.0")}


@given(tables, st.integers(1, 200))
def test_every_value_is_in_the_text(table, width):
    blocks = table.text(width).split("\n\n")
    steps = blocks[0].splitlines()
    assert len(steps) == 1 + len(table.rows)
    for line, row in zip(steps[1:], table.rows, strict=True):
        assert line.split()[-2:] == [str(row.images), percent(row.miou)]
    if not table.classes:
        return
    found = [[] for _ in table.classes]  # put the blocks side by side again and compare with the values
    for block in blocks[1:]:
        lines = block.splitlines()
        assert len(lines) == 1 + len(table.classes)
        for cells, line in zip(found, lines[1:], strict=True):
            columns = cell_len(line) - max(cell_len("IoU per class"), *(cell_len(name) for name in table.classes))
            assert columns > 0
            cells.append(line.split()[-1])
    last = [percent(table.rows[-1].per_class.get(name, NAN)) for name in table.classes]
    assert [cells[-1] for cells in found] == last


@given(tables)
def test_json_round_trip(table):
    text = json.dumps(table.to_dict(), allow_nan=False)
    back = ScoreTable.from_dict(json.loads(text))
    assert len(back.rows) == len(table.rows)
    for a, b in zip(back.rows, table.rows, strict=True):
        assert (a.name, a.split, a.images, list(a.per_class)) == (b.name, b.split, b.images, list(b.per_class))
        assert same(a.miou, b.miou) and all(same(a.per_class[name], b.per_class[name]) for name in a.per_class)


@pytest.mark.parametrize("value", [{}, [], {"rows": [{}]}, {"rows": [{"name": "a", "split": "b", "images": 1, "miou": "high", "per_class": {}}]}])
def test_malformed_json_names_what_was_expected(value):
    with pytest.raises(DataError, match="expected rows with name, split, images, miou, per_class"):
        ScoreTable.from_dict(value)


def test_the_terminal_table_does_not_load_matplotlib():
    code = "import sys, tfwsss.report.table; sys.exit('matplotlib' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
