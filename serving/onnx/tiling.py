"""Cutting a long side into overlapping tiles, of which each gives the part that its neighbours do not disturb."""

from typing import NamedTuple


class Span(NamedTuple):
    """Run on [start, stop); keep [keep_start, keep_stop). The kept parts of a plan cover the side exactly once."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan(length: int, tile: int, overlap: int, stride: int) -> list[Span]:
    """Spans over a side of `length` pixels.

    Every span starts and ends on a multiple of `stride`, so that the network's grid lies the same in each tile as in
    the whole image. Kept pixels are at least `overlap` away from a cut.

    Args:
        length: a multiple of `stride`.
        tile: longest span, a multiple of `stride`.
        overlap: a multiple of `stride`, less than half of `tile`.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    step = tile - 2 * overlap
    starts = [*range(0, length - tile, step), length - tile]
    cuts = [0, *(start + overlap for start in starts[1:]), length]
    return [Span(start, start + tile, cuts[index], cuts[index + 1]) for index, start in enumerate(starts)]


def round_up(value: int, stride: int) -> int:
    """The next multiple of `stride`."""
    return -(-value // stride) * stride
