"""More than 500 files that a service for photos meets sooner or later, or that somebody sends on purpose.

Made anew each time, always the same: nothing binary is kept in the repository. `corpus()` is what tests use:

    for name, data, expectation in corpus(): ...
"""

from collections.abc import Iterator

from . import bombs, damaged, exif, foreign, modes, truncated
from .expectation import HostileFile


def corpus() -> Iterator[HostileFile]:
    """Yield all files as (name, data, expectation); names are unique. See `expectation.Expectation`."""
    for part in (truncated, damaged, foreign, modes, exif, bombs):
        yield from part.files()
