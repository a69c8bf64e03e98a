"""The report: one HTML file that opens offline, with everything inside it.

No script and no request to anywhere; a Content-Security-Policy in the page forbids both. Names from the data set are
escaped by the template engine.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tfwsss.errors import DataError
from tfwsss.report.charts import class_chart, loss_chart, threshold_chart
from tfwsss.report.panels import PALETTE, encode_jpeg, encode_png, hatch_chip
from tfwsss.report.rows import ImageRow, draw_row, used_columns
from tfwsss.report.table import ScoreTable, percent
from tfwsss.storage.atomic import write_text


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows; any collection may be empty.

    Attributes:
        title: heading of the page.
        created: date and time as text.
        classes: class names without background.
        config_yaml: the run's whole configuration.
        table: scores; without rows the page says that nothing was scored.
        histories: stage name -> history as returned by training.
        curves: name -> (background threshold, mIoU in 0..1) pairs.
        training_rows, doubtful_rows, validation_rows: images to show.
        facts: (name, value) pairs for the head of the page: backbone, number of images, duration, ...
    """

    title: str
    created: str
    classes: tuple[str, ...]
    config_yaml: str
    table: ScoreTable = ScoreTable()
    histories: dict[str, list[dict]] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    training_rows: list[ImageRow] = field(default_factory=list)
    doubtful_rows: list[ImageRow] = field(default_factory=list)
    validation_rows: list[ImageRow] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def build_report(path, data: ReportData) -> None:
    """Write the report to `path` atomically, as one self-contained UTF-8 HTML file.

    Raises:
        DataError: an array of an image row does not have the documented shape or type, or a tag is no class.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, csp_hash=_csp_hash)
    grids = [
        _grid("Training images", "from tags to labels", data.training_rows, data.classes),
        _grid("Doubtful labels", "training images whose label is least certain, worst first", data.doubtful_rows, data.classes),
        _grid("Validation images", "never seen in training", data.validation_rows, data.classes),
    ]
    html = environment.get_template("page.html").render(
        data=data,
        table=data.table,
        charts=_charts(data),
        grids=[grid for grid in grids if grid["rows"]],
        legend=[{"index": index + 1, "name": name} for index, name in enumerate(data.classes)],
        colours=[(index + 1, "#{:02x}{:02x}{:02x}".format(*PALETTE[index + 1])) for index in range(len(data.classes))],
        hatch=_uri("image/png", encode_png(hatch_chip())),
    )
    write_text(path, html)


def _grid(title: str, subtitle: str, rows: list[ImageRow], classes: tuple[str, ...]) -> dict:
    columns = used_columns(rows)
    drawn = []
    for row in rows:
        if any(not 0 <= tag < len(classes) for tag in row.tags):
            raise DataError(f"image {row.id!r}, tags: expected 0..{len(classes) - 1}, found {list(row.tags)}")
        tags = [{"index": tag + 1, "name": classes[tag]} for tag in row.tags]
        names = ", ".join(classes[tag] for tag in row.tags) or "no tags"
        cells = [
            None
            if panel is None
            else {"alt": f"{column.heading} of {row.id} ({names})", "uri": _uri("image/jpeg", encode_jpeg(panel)), "height": panel.shape[0], "width": panel.shape[1]}
            for column, panel in zip(columns, draw_row(row, columns), strict=True)
        ]
        drawn.append({"id": row.id, "tags": tags, "note": row.note, "cells": cells})
    return {"title": title, "subtitle": subtitle, "headings": [column.heading for column in columns], "rows": drawn}


def _charts(data: ReportData) -> list[dict]:
    charts = [(threshold_chart(data.curves), "mIoU against the background threshold: " + ", ".join(data.curves), False)]
    for stage, history in data.histories.items():
        alt = f"training loss of {stage}" + (f": {history[0]['loss']:.3g} at first, {history[-1]['loss']:.3g} after {len(history)} epochs" if history else "")
        charts.append((loss_chart(stage, history), alt, False))
    charts.append((class_chart(data.table), "IoU of every class at every step; the numbers are in the score table", True))
    return [{"uri": _uri("image/svg+xml", svg.encode()), "alt": alt, "wide": wide} for svg, alt, wide in charts if svg is not None]


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _csp_hash(style: str) -> str:
    """The style sheet's hash, so that the policy lets in this sheet and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(style).encode()).digest()).decode()
