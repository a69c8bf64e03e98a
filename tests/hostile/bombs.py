"""Files that ask for far more memory or time than their length suggests."""

import functools
import gzip
import io
import struct
import zipfile
import zlib

from PIL import Image

from .encode import (
    HEIGHT,
    PNG_MAGIC,
    WIDTH,
    bmp,
    chunk,
    encoded,
    gif,
    grey_tiff,
    picture,
    pixels,
    plain,
    png,
    png_rows,
    riff,
    segment,
    tiff,
    with_frame,
    with_segments,
)
from .expectation import EITHER, ERROR, HostileFile, mask, sized


@functools.cache
def _zeros(count: int) -> bytes:
    """`count` zero bytes, compressed."""
    squeeze = zlib.compressobj(9)
    parts = [squeeze.compress(bytes(1 << 20)) for _ in range(count >> 20)]
    return b"".join([*parts, squeeze.compress(bytes(count & 0xFFFFF)), squeeze.flush()])


def _announcing():
    """Headers of pictures that are far too large."""
    row = bytes(100_000)
    for width, height, depth, color in ((20000, 20000, 8, 2), (20000, 20000, 1, 0), (100000, 100000, 8, 3), (2**31 - 1, 2**31 - 1, 8, 6), (2**31 - 1, 1, 16, 6), (60_000_000, 1, 8, 0)):
        yield HostileFile(f"bomb-{width}x{height}-depth{depth}-color{color}.png", png(width, height, depth, color, row), ERROR)
    for height, width in ((65500, 65500), (20000, 20000), (65535, 1000)):
        yield HostileFile(f"bomb-{width}x{height}.jpeg", with_frame(plain("JPEG"), height, width), ERROR)
        yield HostileFile(f"bomb-progressive-{width}x{height}.jpeg", with_frame(encoded(picture(), "JPEG", progressive=True), height, width), ERROR)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    yield HostileFile("bomb-65535x65535.gif", gif(65535, 65535, frame, palette=bytes(12)), ERROR)
    small_screen = gif(8, 8, frame, palette=bytes(12))
    yield HostileFile("bomb-frame-larger-than-screen.gif", small_screen, ERROR)
    for width, height, bits in ((30000, 30000, 24), (2**31 - 1, 2**31 - 1, 24), (100000, -100000, 32), (40000, 40000, 1)):
        yield HostileFile(f"bomb-{width}x{height}-{bits}bit.bmp", bmp(width, height, bits, bytes(1000), palette=bytes(8) if bits == 1 else b""), ERROR)
    yield HostileFile("bomb-rle-30000x30000.bmp", bmp(30000, 30000, 8, b"\xff\x00" * 500, palette=bytes(1024), compression=1), ERROR)
    for width, height in ((30000, 30000), (2**32 - 1, 2**32 - 1), (2**31, 2)):
        yield HostileFile(f"bomb-{width}x{height}.tiff", grey_tiff(width, height, bytes(64)), ERROR)
    yield HostileFile("bomb-16777216x16777216-canvas.webp", riff((b"VP8X", b"\0\0\0\0" + b"\xff" * 6)), ERROR)
    lossless = bytearray(encoded(picture(), "WEBP", lossless=True))
    lossless[21:25] = struct.pack("<I", struct.unpack("<I", lossless[21:25])[0] | 0x0FFFFFFF)
    yield HostileFile("bomb-16384x16384-lossless.webp", bytes(lossless), ERROR)
    yield HostileFile("bomb-8000x8000-real.webp", encoded(Image.new("L", (8000, 8000)), "WEBP", lossless=True, method=0), ERROR)
    yield HostileFile("bomb-20000x20000-real.png", png(20000, 20000, 1, 0, bytes(2501 * 20000)), ERROR)


def _unpacking():
    """Small pictures with something huge beside or inside the pixels."""
    rows, hundred = png_rows(pixels()), 100 << 20
    yield HostileFile("bomb-ztxt-100MB.png", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"zTXt", b"Comment\0\0" + _zeros(hundred))), EITHER)
    yield HostileFile("bomb-itxt-100MB.png", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"iTXt", b"Comment\0\1\0\0\0" + _zeros(hundred))), EITHER)
    yield HostileFile("bomb-iccp-100MB.png", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"iCCP", b"profile\0\0" + _zeros(hundred))), EITHER)
    many = chunk(b"zTXt", b"Comment\0\0" + _zeros(900_000)) * 200
    yield HostileFile("bomb-200-ztxt.png", png(WIDTH, HEIGHT, 8, 2, rows, before=many), EITHER)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    squeeze = zlib.compressobj(9)
    endless = squeeze.compress(rows) + b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    yield HostileFile("bomb-idat-200MB-behind-the-pixels.png", PNG_MAGIC + header + chunk(b"IDAT", endless) + chunk(b"IEND", b""), EITHER)
    empty = chunk(b"IDAT", b"") * 20000
    yield HostileFile("bomb-20000-empty-idat.png", PNG_MAGIC + header + empty + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""), EITHER)
    strip = _zeros(hundred)
    yield HostileFile("bomb-deflate-strip-100MB.tiff", grey_tiff(WIDTH, HEIGHT, strip, tag259=(3, 1, 8)), EITHER)
    yield HostileFile("bomb-strips-4-billion.tiff", grey_tiff(8, 8, bytes(64), tag273=(4, 2**32 - 1, 8), tag279=(4, 2**32 - 1, 8)), ERROR)
    yield HostileFile("bomb-one-row-per-strip.tiff", grey_tiff(8, 7_000_000, bytes(64), tag278=(4, 1, 1)), ERROR)
    yield HostileFile("bomb-bits-per-sample-count.tiff", grey_tiff(8, 8, bytes(64), tag258=(3, 2**30, 8)), EITHER)
    yield HostileFile("bomb-samples-per-pixel-65535.tiff", grey_tiff(8, 8, bytes(64), tag277=(3, 1, 65535)), ERROR)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("photo.png", bytes(hundred))
    yield HostileFile("bomb.zip", archive.getvalue(), ERROR)
    yield HostileFile("bomb.png.gz", gzip.compress(bytes(hundred), mtime=0), ERROR)


def _progressive_scans(count: int) -> bytes:
    """A progressive JPEG that repeats its last scan: each costs a pass over the whole picture."""
    data = encoded(Image.new("RGB", (3000, 3000), "gray"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    table = data.rindex(b"\xff\xc4", 0, last)
    return data[:-2] + data[table:-2] * count + b"\xff\xd9"


def _repeating():
    """Much of the same."""
    frames = [picture(seed=number % 3) for number in range(100)]
    yield HostileFile("animated-100-frames.gif", encoded(frames[0].quantize(4), "GIF", save_all=True, append_images=[frame.quantize(4) for frame in frames[1:]]), sized(HEIGHT, WIDTH))
    yield HostileFile("animated-100-frames.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0), mask(pixels()))
    yield HostileFile("animated-100-frames.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), mask(pixels()))
    yield HostileFile("pages-100.tiff", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), mask(pixels()))
    looped = grey_tiff(8, 8, bytes(range(64)), next_ifd=8 + 64)
    yield HostileFile("pages-in-a-circle.tiff", looped, sized(8, 8))
    yield HostileFile("directory-is-empty.tiff", tiff([]), ERROR)
    yield HostileFile("comments-100.jpeg", with_segments(plain("JPEG"), segment(0xFE, b"x" * 60000) * 100), sized(HEIGHT, WIDTH))
    yield HostileFile("icc-255-parts.jpeg", with_segments(plain("JPEG"), *(segment(0xE2, b"ICC_PROFILE\0" + bytes([part, 255]) + bytes(60000)) for part in range(1, 256))), EITHER)
    yield HostileFile("scans-400.jpeg", _progressive_scans(400), EITHER)


def files():
    """Yield `HostileFile`s."""
    yield from _announcing()
    yield from _unpacking()
    yield from _repeating()
