"""How the memory of the process is divided: the model, one run of it, bodies, work, and the connections."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import SegmenterError

AUTOMATIC = 1200e6  # for requests, on top of the model and a run of a whole tile, when no limit is given
CONNECTION = 128 * 1024  # one connection's buffers: what is read ahead and what waits to be written
UNMEASURED = 700  # bytes per pixel of a run where memory cannot be measured: more than any backbone of this project takes
_CAUTION = 1.15  # a run's estimate above its measure
_RUN, _KEPT, _BODIES, _SLACK = 0.55, 0.12, 1 / 3, 0.08
_LEAST, _LEAST_SLACK = 64e6, 16e6


class Budget(NamedTuple):
    """Bytes, and pixels of a run.

    Attributes:
        limit: of the whole process.
        run_pixels: that run together at most, and of a tile.
        kept_pixels: a run of at most so many leaves its memory for the next; that of a larger one is given back.
        bodies: of requests as they arrive.
        work: for reading photos, masks and answers.
        connections: at most so many.
    """

    limit: int
    run_pixels: int
    kept_pixels: int
    bodies: int
    work: int
    connections: int


def divide(limit: float, base: int | None, bytes_per_pixel: float | None, tile_pixels: int, batch_pixels: int) -> Budget:
    """Divide a process' memory.

    Args:
        limit: bytes that the process may hold; 0 for what the model and a run of a tile take and `AUTOMATIC`.
        base: bytes that it holds now, the model loaded and nothing to do; None where that is not known: the limit then
            is for all but the model.
        bytes_per_pixel: what a run takes at its peak, None where that is not known.
        tile_pixels: of the largest tile that is wanted.
        batch_pixels: that are to run together, if there is room.

    Raises:
        SegmenterError: the limit leaves too little.
    """
    base = base or 0
    cost = _CAUTION * (bytes_per_pixel or UNMEASURED)
    run_share = _RUN
    if not limit:
        run = cost * tile_pixels / (1 - _KEPT)
        limit = (base + run + AUTOMATIC) / (1 - _SLACK)
        run_share, batch_pixels = run / (run + AUTOMATIC), 0
    slack = max(_LEAST_SLACK, _SLACK * limit)
    free = limit - base - slack
    if free < _LEAST:
        raise SegmenterError(f"memory_mb: found {limit / 1e6:g}, expected at least {least(base) / 1e6:.0f}: the model alone takes {base / 1e6:.0f} MB")
    wanted = max(tile_pixels, batch_pixels)
    run_pixels = round(min(wanted, (1 - _KEPT) * run_share * free / cost))
    kept_pixels = int(min(_KEPT * wanted, _KEPT * run_share * free / cost))
    rest = free - cost * (run_pixels + kept_pixels)
    return Budget(int(limit), run_pixels, kept_pixels, int(_BODIES * rest), int((1 - _BODIES) * rest), int(slack / CONNECTION))


def least(base: int) -> float:
    """The smallest limit for a model that takes `base` bytes."""
    return 1e6 + max(base + _LEAST + _LEAST_SLACK, (base + _LEAST) / (1 - _SLACK))
