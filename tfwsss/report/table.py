"""The score table: one row for each step of the method that was compared with masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.cells import cell_len

from tfwsss.errors import DataError

TERMINAL_WIDTH = 100  # columns; the per-class block breaks into several blocks beyond it
NO_VALUE = "-"


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one step.

    Attributes:
        name: "CAM", "walk + CRF", ... as the reader shall see it.
        split: "train" or "val".
        images: number of images scored.
        miou: mean IoU over background and classes, 0..1; NaN when nothing could be scored.
        per_class: class name -> IoU in 0..1; NaN for a class that occurs in neither mask nor prediction.
    """

    name: str
    split: str
    images: int
    miou: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class ScoreTable:
    """Rows in the order in which the method computes them."""

    rows: tuple[ScoreRow, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of all rows, in order of first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.per_class))

    def headline(self) -> str:
        """One sentence for each split: from the first row to the best one, in mIoU points."""
        sentences = []
        for split in dict.fromkeys(row.split for row in self.rows):
            rows = [row for row in self.rows if row.split == split and not math.isnan(row.miou)]
            if not rows:
                continue
            first, best = rows[0], max(rows, key=lambda row: row.miou)
            where = f"On {best.images:,} {split} {'image' if best.images == 1 else 'images'}"
            if best is first:
                sentences.append(f"{where}, {best.name} reaches {percent(best.miou)} mIoU.")
            else:
                gain = f"{100 * (best.miou - first.miou):+.1f}"
                sentences.append(f"{where}, mIoU rises from {percent(first.miou)} ({first.name}) to {percent(best.miou)} ({best.name}), {gain} points.")
        return " ".join(sentences) or "Nothing was scored: the data set has no masks."

    def text(self, width: int = TERMINAL_WIDTH) -> str:
        """The table for a terminal: the steps with their mIoU, then IoU per class with one column for each step.

        Args:
            width: terminal columns. Steps that do not fit beside each other continue in a further block.
        """
        steps = [["", "split", "images", "mIoU"]]
        steps += [[row.name, row.split, str(row.images), percent(row.miou)] for row in self.rows]
        blocks = [align_columns(steps, text_columns=2)]
        names = [printable(name) for name in self.classes]
        label_width = max((cell_len(name) for name in ["IoU per class", *names]), default=0)
        for group in _fitting_groups(self.rows, width - label_width) if names else []:
            grid = [["IoU per class", *(row.name for row in group)]]
            grid += [[name, *(percent(row.per_class.get(name, math.nan)) for row in group)] for name in self.classes]
            blocks.append(align_columns(grid, text_columns=1))
        return "\n\n".join(blocks)

    def to_dict(self) -> dict:
        """JSON-ready form, values in 0..1; NaN becomes None because JSON has no NaN."""
        return {
            "rows": [
                {
                    "name": row.name,
                    "split": row.split,
                    "images": row.images,
                    "miou": _to_json(row.miou),
                    "per_class": {name: _to_json(value) for name, value in row.per_class.items()},
                }
                for row in self.rows
            ]
        }

    @classmethod
    def from_dict(cls, value: dict) -> ScoreTable:
        """Inverse of `to_dict`.

        Raises:
            DataError: a field is missing or of the wrong type.
        """
        try:
            return cls(
                tuple(
                    ScoreRow(
                        name=str(row["name"]),
                        split=str(row["split"]),
                        images=int(row["images"]),
                        miou=_from_json(row["miou"]),
                        per_class={str(name): _from_json(iou) for name, iou in row["per_class"].items()},
                    )
                    for row in value["rows"]
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"score table: expected rows with name, split, images, miou, per_class; {error!r}") from None


def percent(value: float) -> str:
    """0.4812 -> "48.1"; "-" for NaN."""
    return NO_VALUE if math.isnan(value) else f"{100 * value:.1f}"


def _to_json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _from_json(value: float | None) -> float:
    return math.nan if value is None else float(value)


def printable(text: str) -> str:
    """`text` with control and format characters replaced by U+FFFD.

    Names come from the user's files: an escape sequence must not reach the terminal, and XML knows no control characters.
    """
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def align_columns(grid: list[list[str]], text_columns: int) -> str:
    """Columns two spaces apart, the first `text_columns` flush left, numbers flush right."""
    grid = [[printable(cell) for cell in line] for line in grid]
    widths = [max(cell_len(line[column]) for line in grid) for column in range(len(grid[0]))]
    lines = []
    for line in grid:
        cells = []
        for column, cell in enumerate(line):
            padding = " " * (widths[column] - cell_len(cell))
            cells.append(cell + padding if column < text_columns else padding + cell)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _fitting_groups(rows: tuple[ScoreRow, ...], width: int) -> list[list[ScoreRow]]:
    """Neighbouring rows whose names, each with two spaces before it, fit in `width`; at least one row in each group."""
    groups: list[list[ScoreRow]] = []
    used = 0
    for row in rows:
        needed = 2 + max(cell_len(printable(row.name)), len("100.0"))
        if not groups or used + needed > width:
            groups.append([])
            used = 0
        groups[-1].append(row)
        used += needed
    return groups
