"""Reading untrusted bytes: every declared size is compared with what is really there before anything is allocated."""

import struct
from pathlib import Path

import numpy as np

from tfwsss.errors import WeightsError

# A compressed file may hold more than its own size, but weights compress by little: anything beyond is an attack
# (or an archive of zeros, for which the constant leaves room).
EXPANSION = 8
EXPANSION_FLOOR = 64 * 2**20
MAX_ARRAYS = 100_000
MAX_DIMENSIONS = 32


def map_file(path) -> memoryview:
    """The file's bytes, mapped rather than read; views of it keep the mapping alive.

    Raises:
        WeightsError: the file is empty.
    """
    if Path(path).stat().st_size == 0:
        raise WeightsError(f"{path}: the file is empty")
    return np.memmap(path, np.uint8, mode="r").data


def expanded_limit(path) -> int:
    """Bytes that the arrays of a compressed file may take together."""
    return EXPANSION * Path(path).stat().st_size + EXPANSION_FLOOR


class Cursor:
    """A position in a buffer. Has `read`, `readline` and `tell` of a file, and reads that must succeed.

    Raises (all but `read` and `readline`):
        WeightsError: the buffer is shorter than what is asked for.
    """

    def __init__(self, data: memoryview, position: int = 0):
        self.data = data
        self.position = position

    @property
    def left(self) -> int:
        """Bytes after the position."""
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        """Exactly `count` bytes, not copied."""
        if not 0 <= count <= self.left:
            raise WeightsError(
                f"truncated or damaged: {count} bytes declared at position {self.position}, {self.left} left"
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def unpack(self, layout: str) -> tuple:
        """Little-endian values by `struct` layout."""
        layout = "<" + layout
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def number(self, layout: str) -> int:
        """One little-endian value."""
        return self.unpack(layout)[0]

    def array(self, dtype, shape) -> np.ndarray:
        """A little-endian array in C order, not copied."""
        dtype = np.dtype(dtype).newbyteorder("<")
        count = 1
        for side in shape:
            if side < 0:
                raise WeightsError(f"damaged: array of shape {list(shape)} at position {self.position}")
            count *= side
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).reshape(shape)

    def read(self, count: int) -> bytes:
        """Up to `count` bytes."""
        return bytes(self.take(max(0, min(count, self.left))))

    def readline(self) -> bytes:
        """Bytes up to and including the next line feed, or to the end."""
        rest = bytes(self.data[self.position : self.position + 4096])  # no line of any format is longer
        return self.read(rest.find(b"\n") + 1 or len(rest))

    def tell(self) -> int:
        """The position."""
        return self.position
