"""`zip` that refuses iterables of different lengths, for Python 3.9 too, where zip has no `strict`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_END = object()


def strict_zip(*iterables: Iterable) -> Iterator[tuple]:
    """Tuples of the iterables' elements in step.

    Raises:
        ValueError: one of them ends before another.
    """
    iterators = [iter(iterable) for iterable in iterables]
    while True:
        values = tuple(next(iterator, _END) for iterator in iterators)
        ended = sum(value is _END for value in values)
        if ended:
            if ended < len(values):
                raise ValueError(f"argument {[value is _END for value in values].index(True) + 1} of strict_zip is shorter than the others")
            return
        yield values
