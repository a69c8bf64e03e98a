"""EXIF: all eight orientations in every format that carries them, and broken, looping and contradicting EXIF."""

import struct

import numpy as np
from PIL import Image

from .encode import HEIGHT, WIDTH, chunk, encoded, picture, pixels, plain, png, png_rows, segment, with_segments
from .expectation import EITHER, HostileFile, mask, sized

_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _block(*entries, byte_order: bytes = b"II", next_ifd: int = 0) -> bytes:
    """A TIFF block of (tag, type, count, value) entries, as it stands in EXIF segments and chunks."""
    end = "<" if byte_order == b"II" else ">"
    head = byte_order + struct.pack(end + "HI", 42, 8) + struct.pack(end + "H", len(entries))
    rows = b"".join(struct.pack(end + "HHI", tag, kind, count) + (struct.pack(end + "HH", value, 0) if kind == 3 else struct.pack(end + "I", value)) for tag, kind, count, value in entries)
    return head + rows + struct.pack(end + "I", next_ifd)


def _oriented():
    for orientation, turn in _UPRIGHT.items():
        upright = np.ascontiguousarray(turn(pixels()))
        for file_format in ("PNG", "WEBP", "TIFF"):
            arguments = {"lossless": True} if file_format == "WEBP" else {}
            yield HostileFile(f"exif-orientation-{orientation}.{file_format.lower()}", encoded(picture(), file_format, exif=_exif(orientation), **arguments), mask(upright))
        yield HostileFile(f"exif-orientation-{orientation}.jpeg", encoded(picture(), "JPEG", exif=_exif(orientation)), sized(*upright.shape[:2]))


def _blocks():
    """(name, EXIF block, does it say how to turn): True means a quarter turn, None that readers may differ."""
    tag = 0x0112
    yield "orientation-0", _block((tag, 3, 1, 0)), False
    yield "orientation-9", _block((tag, 3, 1, 9)), False
    yield "orientation-65535", _block((tag, 3, 1, 65535)), False
    yield "big-endian", _block((tag, 3, 1, 6), byte_order=b"MM"), True
    yield "next-directory-is-itself", _block((tag, 3, 1, 6), next_ifd=8), True
    yield "exif-directory-is-itself", _block((tag, 3, 1, 6), (0x8769, 4, 1, 8)), True
    yield "gps-directory-is-itself", _block((tag, 3, 1, 6), (0x8825, 4, 1, 8)), True
    yield "maker-note-far-away", _block((tag, 3, 1, 6), (0x927C, 7, 2**31, 2**31)), None
    yield "orientation-as-text", _block((tag, 2, 4, 0x00363636)), None
    yield "orientation-as-long", _block((tag, 4, 1, 6)), None
    yield "orientation-as-bytes", _block((tag, 1, 1, 6)), None
    yield "orientation-as-fraction", _block((tag, 5, 1, 8)), None
    yield "orientation-list", _block((tag, 3, 2, 6)), None
    yield "orientation-count-4-billion", _block((tag, 3, 2**32 - 1, 6)), None
    yield "orientation-twice", _block((tag, 3, 1, 6), (tag, 3, 1, 1)), None
    yield "entries-65535", b"II*\0\x08\0\0\0\xff\xff" + bytes(100), None
    yield "directory-far-away", b"II*\0\xff\xff\xff\x7f", None
    yield "cut-off", _block((tag, 3, 1, 6))[:14], None
    yield "empty", b"", None
    yield "noise", np.random.default_rng(3).bytes(5000), None
    yield "zeros-60000", bytes(60000), None
    yield "thumbnail-far-away", _block((tag, 3, 1, 1), (0x0201, 4, 1, 2**31), (0x0202, 4, 1, 2**31)), False


def files():
    """Yield `HostileFile`s."""
    yield from _oriented()
    for name, block, turned in _blocks():
        size = (WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH)
        jpeg = with_segments(plain("JPEG"), segment(0xE1, b"Exif\0\0" + block))
        yield HostileFile(f"exif-{name}.jpeg", jpeg, EITHER if turned is None else sized(*size))
        chunked = png(WIDTH, HEIGHT, 8, 2, png_rows(pixels()), before=chunk(b"eXIf", block))
        upright = np.ascontiguousarray(_UPRIGHT[6](pixels())) if turned else pixels()
        yield HostileFile(f"exif-{name}.png", chunked, EITHER if turned is None else mask(upright))
    turn = _block((0x0112, 3, 1, 6))
    yield HostileFile("exif-behind-the-pixels.png", png(WIDTH, HEIGHT, 8, 2, png_rows(pixels()), after=chunk(b"eXIf", turn)), EITHER)
    yield HostileFile("exif-twice.jpeg", with_segments(plain("JPEG"), segment(0xE1, b"Exif\0\0" + turn), segment(0xE1, b"Exif\0\0" + _block((0x0112, 3, 1, 1)))), EITHER)
    yield HostileFile("exif-twice.png", png(WIDTH, HEIGHT, 8, 2, png_rows(pixels()), before=chunk(b"eXIf", turn) + chunk(b"eXIf", _block((0x0112, 3, 1, 1)))), EITHER)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    yield HostileFile("xmp-orientation.jpeg", with_segments(plain("JPEG"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)), EITHER)
    yield HostileFile("xmp-orientation.png", png(WIDTH, HEIGHT, 8, 2, png_rows(pixels()), before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)), EITHER)
