"""Charts as stand-alone SVG documents that follow the reader's light or dark mode.

matplotlib draws text and axes in a marker colour; a media query inside the SVG decides what the marker looks like.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfwsss.report.table import ScoreTable, percent, printable

# Colours that read on white and on near-black alike, told apart also with colour-blind eyes (after Okabe and Ito).
SERIES = ("#2f86c9", "#e0851a", "#139e77", "#c9568f", "#8f7be8", "#a68a00", "#c9482f", "#7d8590")
INK, FAINT = "#010203", "#040506"  # markers, see _THEME
_THEME = (
    "<style>:root{--ink:#24292f;--faint:#d5dae0}"
    "@media(prefers-color-scheme:dark){:root{--ink:#d6dae0;--faint:#3a414b}}</style>"
)
READER_FONTS = "'DejaVu Sans', Verdana, sans-serif"  # the text is laid out in the first; the second has its widths
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small files, and any script the reader's fonts know
    "svg.hashsalt": "tfwsss",  # the same input gives the same bytes
    "text.parse_math": False,  # class names may hold dollar signs
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
WIDTH, WIDE = 3.8, 11.0  # inches
BAR_HEIGHT = 0.085  # inches
NOT_LOSSES = {"epoch", "learning_rate"}


def loss_chart(stage: str, history: list[dict]) -> str | None:
    """Training loss per epoch, its parts as thin lines, and the learning rate on the right-hand axis.

    Args:
        stage: its name, the title.
        history: one dict per epoch with `epoch`, `loss`, and optionally `learning_rate` and parts of the loss.

    Returns:
        An SVG document; None without a finished epoch.
    """
    if not history:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.6)
        axes.set_title(printable(stage))
        epochs = [entry["epoch"] for entry in history]
        parts = [name for name in history[-1] if name not in NOT_LOSSES and name != "loss"]
        axes.plot(epochs, _series(history, "loss"), marker="o", color=SERIES[0], label="loss", zorder=3)
        for index, name in enumerate(parts):
            axes.plot(epochs, _series(history, name), linewidth=1.0, color=SERIES[1 + index % (len(SERIES) - 1)], label=printable(name))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        lines = list(axes.get_lines())
        if any("learning_rate" in entry for entry in history):
            rate = axes.twinx()
            rate.grid(False)
            rate.plot(epochs, _series(history, "learning_rate"), color=SERIES[-1], linewidth=1.2, linestyle=(0, (3, 2)), label="learning rate")
            rate.set_ylim(bottom=0.0)
            rate.ticklabel_format(axis="y", scilimits=(-2, 3))
            rate.yaxis.get_offset_text().set_fontsize(8)
            rate.yaxis.set_major_locator(MaxNLocator(nbins=4))
            lines += rate.get_lines()
        figure.legend(handles=lines, loc="outside lower center", ncols=3)
        return _svg(figure)


def threshold_chart(curves: dict[str, list[tuple[float, float]]]) -> str | None:
    """mIoU against the background threshold, with each curve's best point marked.

    Args:
        curves: name -> (threshold, mIoU in 0..1) pairs in order of the threshold.

    Returns:
        An SVG document; None when there is no curve.
    """
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.6)
        axes.set_title("mIoU by background threshold")
        curve_lines = []
        for index, (name, points) in enumerate(curves.items()):
            colour = SERIES[index % len(SERIES)]
            threshold, miou = max(points, key=lambda point: -math.inf if math.isnan(point[1]) else point[1])
            label = f"{printable(name)}: {percent(miou)} at {threshold:.2f}"
            curve_lines += axes.plot([x for x, _ in points], [100 * y for _, y in points], color=colour, label=label)
            axes.plot([threshold], [100 * miou], marker="o", markersize=6, color=colour)
        axes.set_xlabel("background threshold")
        axes.set_ylabel("mIoU, %")
        axes.set_ylim(bottom=0.0)
        figure.legend(handles=curve_lines, loc="outside lower center", ncols=2)
        return _svg(figure)


def class_chart(table: ScoreTable) -> str | None:
    """Horizontal bars: IoU of every class at every step, the steps in the table's order.

    Returns:
        An SVG document; None when the table has no classes.
    """
    classes, rows = table.classes, table.rows
    if not classes:
        return None
    with matplotlib.rc_context(_STYLE):
        group = BAR_HEIGHT * len(rows) + 0.12
        figure, axes = _figure(0.9 + group * len(classes) + 0.2 * math.ceil(len(rows) / 4), width=WIDE)
        thickness = BAR_HEIGHT / group
        for index, row in enumerate(rows):
            offset = (index - (len(rows) - 1) / 2) * thickness
            values = [100 * row.per_class.get(name, math.nan) for name in classes]
            places = [place + offset for place in range(len(classes))]
            axes.barh(places, values, height=thickness * 0.9, color=SERIES[index % len(SERIES)], label=printable(f"{row.name} ({row.split})"))
        axes.set_yticks(range(len(classes)), [printable(name) for name in classes])
        axes.set_ylim(len(classes) - 0.45, -0.55)
        axes.set_xlim(0, 100)
        axes.set_xlabel("IoU, %")
        axes.grid(False, axis="y")
        figure.legend(loc="outside upper left", ncols=4)
        return _svg(figure)


def _figure(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    # A Figure of its own, not pyplot's: no global list of figures, usable from any thread.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _series(history: list[dict], name: str) -> list[float]:
    return [float(entry.get(name, math.nan)) for entry in history]


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        # matplotlib's own font only measures the text; the reader's browser draws it and knows more scripts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    start = text.index("<svg")
    body = text.index(">", start) + 1
    text = text[start:body] + _THEME + text[body:]
    text = text.replace("'DejaVu Sans'", READER_FONTS)
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
