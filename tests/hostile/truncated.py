"""Good files cut short, and good files with some bytes changed."""

import numpy as np

from .encode import ARGUMENTS, encoded, picture, plain
from .expectation import EITHER, ERROR, HostileFile

_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


def files():
    """Yield `HostileFile`s."""
    for file_format in ARGUMENTS:
        data, suffix = plain(file_format), file_format.lower()
        for length in (1, 3, 8, 20):
            yield HostileFile(f"truncated-{length}-bytes.{suffix}", data[:length], ERROR)
        for share in _SHARES:
            yield HostileFile(f"truncated-{share:.0%}.{suffix}", data[: int(len(data) * share)], ERROR)
        yield HostileFile(f"truncated-one-byte.{suffix}", data[:-1], EITHER)
        rng = np.random.default_rng(len(data))
        for number in range(8):
            changed = bytearray(data)
            for position in rng.integers(0, len(data), 1 + number):
                changed[position] ^= int(rng.integers(1, 256))
            yield HostileFile(f"flipped-{1 + number}-bytes.{suffix}", bytes(changed), EITHER)
    progressive = encoded(picture(), "JPEG", progressive=True)
    for share in _SHARES:
        yield HostileFile(f"truncated-progressive-{share:.0%}.jpeg", progressive[: int(len(progressive) * share)], ERROR)
