"""Masks as lengths of runs, in the two forms that annotation tools have beside COCO's. numpy only.

CVAT lists the lengths of runs in row-major order, background first. Label Studio packs runs of bytes into bits: the brush's
red, green, blue and alpha of every pixel, of which the alpha channel is the mask. COCO's form, column-major, is read and
written by pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHANNELS = 4  # red, green, blue, alpha
WORD = 8  # bits of a value
LENGTH_BITS = (3, 4, 8, 16)  # of a run's length less one; two bits in front of it say which


def runs_of(mask) -> list[int]:
    """Lengths of the runs of a mask [H, W] of truth values in row-major order, the first of background: 0 where it begins with the object."""
    flat = np.asarray(mask, bool).ravel()
    if not flat.size:
        return []
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def mask_of_runs(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask [height, width] bool of `runs_of`.

    Raises:
        ValueError: a length is negative, or they do not add up to the mask.
    """
    pixels = height * width
    if any(not 0 <= run <= pixels for run in runs) or sum(runs) != pixels:
        raise ValueError(f"run lengths do not add up to {width}x{height} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def brush_of(mask) -> list[int]:
    """Label Studio's brush of a mask [H, W] of truth values: bytes 0..255, every channel 255 inside and 0 outside."""
    mask = np.asarray(mask, bool)
    bits = [f"{mask.size * CHANNELS:032b}", f"{WORD - 1:05b}", *(f"{size - 1:04b}" for size in LENGTH_BITS)]
    longest = 1 << LENGTH_BITS[-1]
    for number, run in enumerate(runs_of(mask)):
        value, left = f"{255 * (number % 2):08b}", run * CHANNELS
        while left:
            length = min(left, longest)
            which = next(index for index, size in enumerate(LENGTH_BITS) if length <= 1 << size)
            bits.append(f"1{which:02b}{length - 1:0{LENGTH_BITS[which]}b}{value}")
            left -= length
    packed = np.frombuffer("".join(bits).encode("ascii"), np.uint8) - ord("0")
    return np.packbits(packed).tolist()


def mask_of_brush(brush: Sequence[int], height: int, width: int) -> np.ndarray:
    """The mask [height, width] bool of a brush, from `brush_of` or from Label Studio: where its alpha is not 0.

    Raises:
        ValueError: these are no bytes of a brush, or one of a photo of another size.
    """
    data = np.asarray(brush)
    if data.ndim != 1 or data.dtype.kind not in "iu" or not data.size or data.min() < 0 or data.max() > 255:
        raise ValueError("a brush is a list of bytes 0..255")
    stream = _Bits(np.unpackbits(data.astype(np.uint8)))
    count, word = stream.number(32), stream.number(5) + 1
    sizes = [stream.number(4) + 1 for _ in range(4)]
    if count != height * width * CHANNELS:
        raise ValueError(f"a brush of {count} values, expected {CHANNELS} for each of {width}x{height} pixels")
    values = np.zeros(count, bool)
    done = 0
    while done < count:
        same = stream.number(1)
        length = stream.number(sizes[stream.number(2)]) + 1
        if done + length > count:
            raise ValueError(f"a brush with more values than the {count} it announces")
        values[done : done + length] = stream.number(word) != 0 if same else stream.take(length * word).reshape(length, word).any(axis=1)
        done += length
    return values.reshape(height, width, CHANNELS)[:, :, CHANNELS - 1]


class _Bits:
    def __init__(self, bits: np.ndarray):
        self.bits, self.at = bits, 0

    def take(self, count: int) -> np.ndarray:
        part = self.bits[self.at : self.at + count]
        if len(part) < count:
            raise ValueError("a brush that ends early")
        self.at += count
        return part

    def number(self, bits: int) -> int:
        return int(self.take(bits).tobytes().translate(_DIGITS), 2)


_DIGITS = bytes.maketrans(b"\0\1", b"01")
