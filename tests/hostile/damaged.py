"""Whole files of the right kind with one thing in them wrong."""

import struct
import zlib

import numpy as np

from .encode import (
    HEIGHT,
    PNG_MAGIC,
    WIDTH,
    bmp,
    chunk,
    gif,
    grey_tiff,
    pixels,
    plain,
    png,
    png_rows,
    riff,
    segment,
    with_frame,
    with_segments,
)
from .expectation import EITHER, ERROR, HostileFile, mask


def _png():
    rows = png_rows(pixels())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    content, end = chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    yield "width-0", png(0, 8, 8, 2, b""), ERROR
    yield "height-0", png(8, 0, 8, 2, b""), ERROR
    yield "depth-3", png(WIDTH, HEIGHT, 3, 2, rows), ERROR
    yield "depth-0", png(WIDTH, HEIGHT, 0, 2, rows), ERROR
    yield "color-7", png(WIDTH, HEIGHT, 8, 7, rows), ERROR
    yield "interlace-9", png(WIDTH, HEIGHT, 8, 2, rows, interlace=9), EITHER
    yield "interlaced-rows-missing", png(WIDTH, HEIGHT, 8, 2, rows, interlace=1), EITHER
    yield "filter-9", png(WIDTH, HEIGHT, 8, 2, b"\x09" + rows[1:]), EITHER
    yield "rows-missing", png(WIDTH, HEIGHT, 8, 2, rows[: len(rows) // 2]), EITHER
    yield "rows-too-many", png(WIDTH, HEIGHT, 8, 2, rows * 2), EITHER
    yield "no-pixels", PNG_MAGIC + header + end, ERROR
    yield "no-header", PNG_MAGIC + content + end, ERROR
    yield "header-behind", PNG_MAGIC + content + header + end, ERROR
    yield "header-twice", PNG_MAGIC + header + header + content + end, EITHER
    yield "header-checksum", PNG_MAGIC + header[:-1] + b"\0" + content + end, ERROR
    yield "pixels-checksum", PNG_MAGIC + header + content[:-1] + bytes([content[-1] ^ 1]) + end, EITHER
    yield "pixels-not-compressed", PNG_MAGIC + header + chunk(b"IDAT", rows) + end, ERROR
    yield "pixels-adler", PNG_MAGIC + header + chunk(b"IDAT", zlib.compress(rows)[:-4] + bytes(4)) + end, EITHER
    yield "chunk-4-billion-long", PNG_MAGIC + header + b"\xff\xff\xff\xffIDAT" + content, ERROR
    yield "chunk-2-billion-long", PNG_MAGIC + header + b"\x7f\xff\xff\xfftEXt" + content, ERROR
    yield "unknown-critical-chunk", PNG_MAGIC + header + chunk(b"ABCD", b"x") + content + end, EITHER
    yield "unknown-chunk", PNG_MAGIC + header + chunk(b"abCd", b"x") + content + end, mask(pixels())
    yield "palette-missing", png(WIDTH, HEIGHT, 8, 3, png_rows(pixels()[:, :, :1])), EITHER
    yield "palette-too-short", png(WIDTH, HEIGHT, 8, 3, png_rows(pixels()[:, :, :1]), before=chunk(b"PLTE", b"\1\2\3")), EITHER
    yield "palette-4-bytes", png(WIDTH, HEIGHT, 8, 3, png_rows(pixels()[:, :, :1]), before=chunk(b"PLTE", b"\1\2\3\4")), EITHER
    yield "transparency-too-long", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"tRNS", bytes(1000))), EITHER
    yield "line-ends-translated", plain("PNG").replace(b"\r\n", b"\n"), ERROR
    yield "animation-without-frames", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), EITHER
    yield "animation-frame-outside", png(WIDTH, HEIGHT, 8, 2, rows, before=chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 999, 999, 999, 999, 1, 1, 0, 0))), EITHER


def _jpeg():
    data = plain("JPEG")
    frame, tables, codes = data.index(b"\xff\xc0"), data.index(b"\xff\xdb"), data.index(b"\xff\xc4")
    scan = data.index(b"\xff\xda")

    def changed(position: int, value: int) -> bytes:
        return data[:position] + bytes([value]) + data[position + 1 :]

    yield "width-0", with_frame(data, HEIGHT, 0), ERROR
    yield "height-0", with_frame(data, 0, WIDTH), ERROR
    yield "higher-than-its-scan", with_frame(data, 4000, WIDTH), EITHER
    yield "no-tables", data[:tables] + data[frame:], ERROR
    yield "no-codes", data[:codes] + data[scan:], EITHER
    yield "no-frame", data[:frame] + data[codes:], ERROR
    yield "no-scan", data[:scan] + b"\xff\xd9", ERROR
    yield "only-start-and-end", b"\xff\xd8\xff\xd9", ERROR
    yield "only-start", b"\xff\xd8\xff", ERROR
    yield "segment-length-0", data[: frame + 2] + b"\0\0" + data[frame + 4 :], ERROR
    yield "segment-length-65535", data[: frame + 2] + b"\xff\xff" + data[frame + 4 :], ERROR
    yield "components-0", changed(frame + 9, 0), ERROR
    yield "components-255", changed(frame + 9, 255), ERROR
    yield "components-2", changed(frame + 9, 2), ERROR
    yield "sampling-0", changed(frame + 11, 0), ERROR
    yield "sampling-255", changed(frame + 11, 255), ERROR
    yield "table-number-9", changed(frame + 12, 9), ERROR
    yield "tables-of-zeros", data[: tables + 5] + bytes(64) + data[tables + 69 :], EITHER
    yield "codes-of-ones", data[: codes + 5] + b"\xff" * 16 + data[codes + 21 :], ERROR
    yield "scan-of-ones", data[: scan + 14] + b"\xff\x00" * 500 + b"\xff\xd9", EITHER
    yield "scan-of-zeros", data[: scan + 14] + bytes(500) + b"\xff\xd9", EITHER
    yield "restart-interval-1", with_segments(data, segment(0xDD, b"\0\1")), EITHER
    yield "frame-twice", data[:frame] + data[frame:codes] * 2 + data[codes:], EITHER
    yield "hierarchical", changed(frame + 1, 0xC5), ERROR


def _others():
    yield "no-frames.gif", gif(8, 8, b";"), ERROR
    yield "size-0.gif", gif(0, 0, b",\0\0\0\0\0\0\0\0\0\2\0;", palette=bytes(12)), ERROR
    for size in (0, 12, 255):
        yield f"code-size-{size}.gif", gif(8, 8, b",\0\0\0\0\x08\0\x08\0\0" + bytes([size]) + b"\4\x8c\x2d\x99\x87\0;", palette=bytes(12)), EITHER
    yield "endless-blocks.gif", gif(8, 8, b"!\xfe" + b"\xff" + bytes(255)), ERROR
    yield "frame-outside.gif", gif(8, 8, b",\xff\xff\xff\xff\x08\0\x08\0\0\2\2\x44\1\0;", palette=bytes(12)), EITHER
    yield "bits-3.bmp", bmp(8, 8, 3, bytes(400)), ERROR
    yield "size-0.bmp", bmp(0, 0, 24, bytes(400)), ERROR
    yield "width-negative.bmp", bmp(-8, 8, 24, bytes(400)), ERROR
    yield "pixels-outside.bmp", bmp(8, 8, 24, bytes(192), offset=100_000), ERROR
    yield "compression-99.bmp", bmp(8, 8, 24, bytes(192), compression=99), ERROR
    yield "run-length-too-long.bmp", bmp(8, 8, 8, b"\xff\x01" * 50, palette=bytes(1024), compression=1), EITHER
    yield "run-length-jump.bmp", bmp(8, 8, 8, b"\0\2\xff\xff" * 50, palette=bytes(1024), compression=1), EITHER
    yield "header-size-0.bmp", plain("BMP")[:14] + bytes(4) + plain("BMP")[18:], ERROR
    yield "palette-of-4-billion.bmp", plain("BMP")[:46] + b"\xff" * 4 + plain("BMP")[50:], EITHER
    grey = np.ascontiguousarray(pixels(8, 8)[:, :, 0]).tobytes()
    yield "size-0.tiff", grey_tiff(0, 0, grey), ERROR
    yield "pixels-outside.tiff", grey_tiff(8, 8, grey, tag273=(4, 1, 2**31)), ERROR
    yield "compression-60000.tiff", grey_tiff(8, 8, grey, tag259=(3, 1, 60000)), ERROR
    yield "deflate-noise.tiff", grey_tiff(8, 8, grey, tag259=(3, 1, 8)), ERROR
    yield "lzw-noise.tiff", grey_tiff(8, 8, grey, tag259=(3, 1, 5)), EITHER
    yield "jpeg-noise.tiff", grey_tiff(8, 8, grey, tag259=(3, 1, 7)), ERROR
    yield "old-jpeg.tiff", grey_tiff(8, 8, grey, tag259=(3, 1, 6)), ERROR
    yield "tiles-of-0.tiff", grey_tiff(8, 8, grey, tag322=(4, 1, 0), tag323=(4, 1, 0), tag324=(4, 1, 8), tag325=(4, 1, 64)), EITHER
    yield "width-as-text.tiff", grey_tiff(8, 8, grey, tag256=(2, 4, 0x38383838)), ERROR
    yield "directory-outside.tiff", b"II*\0\xff\xff\xff\x7f" + grey, ERROR
    yield "magic-only.tiff", b"II*\0", ERROR
    yield "only-container.webp", riff(), ERROR
    yield "only-animation.webp", riff((b"VP8X", b"\2\0\0\0\7\0\0\7\0\0"), (b"ANIM", bytes(6))), ERROR
    yield "length-too-large.webp", plain("WEBP")[:4] + b"\xff\xff\xff\xff" + plain("WEBP")[8:], EITHER
    yield "length-0.webp", plain("WEBP")[:4] + bytes(4) + plain("WEBP")[8:], EITHER
    yield "pixels-of-noise.webp", riff((b"VP8L", b"\x2f" + np.random.default_rng(1).bytes(300))), EITHER


def files():
    """Yield `HostileFile`s."""
    for suffix, damaged in (("png", _png()), ("jpeg", _jpeg())):
        for name, data, expectation in damaged:
            yield HostileFile(f"damaged-{name}.{suffix}", data, expectation)
    for name, data, expectation in _others():
        yield HostileFile(f"damaged-{name}", data, expectation)
