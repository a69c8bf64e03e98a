import math
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from tfwsss.report.charts import class_chart, loss_chart, threshold_chart
from tfwsss.report.table import ScoreRow, ScoreTable

HISTORY = [{"epoch": 1, "learning_rate": 0.1, "loss": 0.7, "bg": 0.2}, {"epoch": 2, "learning_rate": 0.05, "loss": 0.4, "bg": 0.1}]
TABLE = ScoreTable((ScoreRow("CAM", "train", 3, 0.5, {"background": 0.7, "<b>&$x^2$": 0.3}), ScoreRow("walk", "train", 3, 0.6, {"background": 0.8, "<b>&$x^2$": math.nan})))


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def check_svg(svg):
    """Well-formed, refers to nothing outside itself, and takes its text colour from the mode."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href"):
                assert value.startswith("#") or value.startswith("data:")
            assert not re.search(r"url\((?!#)", value)
    assert "prefers-color-scheme:dark" in svg and "fill: var(--ink)" in svg
    assert "'DejaVu Sans', Verdana, sans-serif" in svg
    assert "<script" not in svg and "<!DOCTYPE" not in svg


def test_loss_chart_names_every_series():
    svg = loss_chart("affinitynet", HISTORY)
    check_svg(svg)
    assert {"affinitynet", "epoch", "loss", "bg", "learning rate"} <= set(texts(svg))


def test_loss_chart_of_one_epoch_without_rate_and_with_nan():
    svg = loss_chart("classifier", [{"epoch": 1, "loss": math.nan}])
    check_svg(svg)
    assert "learning rate" not in texts(svg)


def test_threshold_chart_names_the_best_point():
    svg = threshold_chart({"CAM": [(0.1, 0.3), (0.25, 0.481), (0.5, math.nan), (0.6, 0.2)], "empty": []})
    check_svg(svg)
    assert "CAM: 48.1 at 0.25" in texts(svg)


def test_class_chart_escapes_names_and_reads_no_formulas():
    svg = class_chart(TABLE)
    check_svg(svg)
    assert {"background", "<b>&$x^2$", "CAM (train)", "walk (train)"} <= set(texts(svg))


def test_class_chart_grows_with_the_classes():
    def height(classes):
        svg = class_chart(ScoreTable((ScoreRow("CAM", "train", 1, 0.5, {f"class {index}": 0.5 for index in range(classes)}),)))
        return float(ElementTree.fromstring(svg).attrib["height"].removesuffix("pt"))

    assert height(80) > 5 * height(10)


def test_nothing_to_draw():
    assert loss_chart("classifier", []) is None
    assert threshold_chart({}) is None and threshold_chart({"CAM": []}) is None
    assert class_chart(ScoreTable()) is None


def test_same_input_same_bytes_and_no_trace_in_the_global_settings():
    before = dict(matplotlib.rcParams)
    assert class_chart(TABLE) == class_chart(TABLE)
    assert dict(matplotlib.rcParams) == before


def test_control_characters_do_not_break_the_xml():
    svg = class_chart(ScoreTable((ScoreRow("CAM\x00", "train", 1, 0.5, {"a\x1b": 0.5}),)))
    check_svg(svg)
    check_svg(loss_chart("\x01", [{"epoch": 1, "loss": 1.0, "\x02": 2.0}]))
    check_svg(threshold_chart({"\x03": [(0.1, 0.2)]}))
    assert "a\ufffd" in texts(svg)


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_draw_without_warnings():
    check_svg(class_chart(ScoreTable((ScoreRow("CAM", "train", 1, 0.5, {"犬": 0.5, "Füchse": 0.25, "_hidden": 1.0}),))))
