"""Outlines of a mask as polygons along the edges of its pixels: a polygon encloses exactly the pixels of one connected part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

Point = tuple[int, int]  # (x, y), corners of pixels


def polygons_of(mask) -> Iterator[list[Point]]:
    """A closed polygon for each part of a mask [H, W] of truth values whose pixels hang together by their edges.

    A hole is tied to the outer outline by a line that is walked there and back, as formats want that have one polygon for an
    object: by the even-odd rule, and by the winding rule too, it stays a hole.
    """
    parts, count = ndimage.label(np.asarray(mask, bool))
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts, count), 1):
        outer, *holes = sorted(_loops(parts[rows, columns] == number), key=_area, reverse=True)  # holes turn the other way
        for hole in holes:
            outer = _tied(outer, hole)
        yield [(x + columns.start, y + rows.start) for x, y in outer]


def _loops(mask: np.ndarray) -> list[list[Point]]:
    """Closed walks along all edges between inside and outside, the inside on the right."""
    padded = np.pad(mask, 1)
    inside, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    steps: dict[Point, list[Point]] = {}

    def walk(where: np.ndarray, start: Point, end: Point) -> None:
        for y, x in zip(*(index.tolist() for index in np.nonzero(where)), strict=True):
            steps.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    walk(inside & ~above, (0, 0), (1, 0))
    walk(above & ~inside, (1, 0), (0, 0))
    walk(inside & ~left, (0, 1), (0, 0))
    walk(left & ~inside, (0, 0), (0, 1))
    loops = []
    while steps:
        start = next(iter(steps))
        loop, at, ahead = [start], start, (0, 0)
        while True:
            choices = steps[at]
            # Where two pixels touch by a corner, turning right stays with the pixel that was walked along.
            right = (at[0] - ahead[1], at[1] + ahead[0])
            following = right if right in choices else choices[0]
            choices.remove(following)
            if not choices:
                del steps[at]
            turn = (following[0] - at[0], following[1] - at[1])
            if turn == ahead:
                loop[-1] = following
            else:
                loop.append(following)
            at, ahead = following, turn
            if at == start and (at[0] - ahead[1], at[1] + ahead[0]) not in steps.get(at, ()):
                break  # else the corner belongs to two walks, or to this one twice
        loops.append(loop[:-1])
    return loops


def _area(loop: list[Point]) -> int:
    """Twice the area, negative for a hole."""
    return sum(x * below - right * y for (x, y), (right, below) in zip(loop, [*loop[1:], loop[0]], strict=True))


def _tied(outer: list[Point], hole: list[Point]) -> list[Point]:
    corners, inner = np.array(outer), np.array(hole)
    near = int(((corners - inner[0]) ** 2).sum(axis=1).argmin())
    far = int(((inner - corners[near]) ** 2).sum(axis=1).argmin())
    return [*outer[: near + 1], *hole[far:], *hole[: far + 1], *outer[near:]]
