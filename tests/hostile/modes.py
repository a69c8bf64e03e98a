"""Sound pictures of unusual kinds: every depth, colour model, compression and layout, animations, extreme shapes."""

import struct
import zlib

import numpy as np
from PIL import Image

from .encode import (
    HEIGHT,
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
    tiff,
    with_segments,
)
from .expectation import EITHER, ERROR, HostileFile, mask, sized

_GREY = pixels()[:, :, :1]
_DEEP = _GREY.astype(np.uint16) * 257 + np.arange(WIDTH, dtype=np.uint16)[None, :, None] % 100
_SIZE = sized(HEIGHT, WIDTH)


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 3, axis=2)


def _packed(values: np.ndarray, bits: int) -> bytes:
    """[H, W, 1] samples of 1, 2 or 4 bits as PNG rows."""
    rows = []
    for row in values[:, :, 0]:
        digits = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()
        rows.append(b"\0" + np.packbits(digits).tobytes())
    return b"".join(rows)


def _png():
    rgb, opaque = pixels(), np.full_like(_GREY, 255)
    half = np.full_like(_GREY, 128)
    yield "grey8", png(WIDTH, HEIGHT, 8, 0, png_rows(_GREY)), mask(_grey(_GREY))
    yield "grey16", png(WIDTH, HEIGHT, 16, 0, png_rows(_DEEP)), mask(_grey(((_DEEP.astype(int) * 255 + 32767) // 65535).astype(np.uint8)))
    yield "rgb16", png(WIDTH, HEIGHT, 16, 2, png_rows(rgb.astype(np.uint16) * 257)), mask(rgb)
    yield "rgba16", png(WIDTH, HEIGHT, 16, 6, png_rows(np.concatenate([rgb, opaque], 2).astype(np.uint16) * 257)), mask(rgb)
    yield "grey-alpha16", png(WIDTH, HEIGHT, 16, 4, png_rows(np.concatenate([_GREY, opaque], 2).astype(np.uint16) * 257)), mask(_grey(_GREY))
    yield "rgba-opaque", png(WIDTH, HEIGHT, 8, 6, png_rows(np.concatenate([rgb, opaque], 2))), mask(rgb)
    yield "rgba-clear", png(WIDTH, HEIGHT, 8, 6, png_rows(np.concatenate([rgb, 0 * opaque], 2))), mask(np.full_like(rgb, 255))
    yield "rgba-half", png(WIDTH, HEIGHT, 8, 6, png_rows(np.concatenate([rgb, half], 2))), _SIZE
    yield "grey-alpha", png(WIDTH, HEIGHT, 8, 4, png_rows(np.concatenate([_GREY, half], 2))), _SIZE
    for bits in (1, 2, 4):
        values = _GREY >> (8 - bits)
        yield f"grey{bits}", png(WIDTH, HEIGHT, bits, 0, _packed(values, bits)), mask(_grey(values * (255 // (2**bits - 1))))
        colors = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8)
        yield f"palette{bits}", png(WIDTH, HEIGHT, bits, 3, _packed(values, bits), before=chunk(b"PLTE", colors.tobytes())), mask(colors[values[:, :, 0]])
    colors = np.random.default_rng(8).integers(0, 256, (256, 3), np.uint8)
    table = chunk(b"PLTE", colors.tobytes())
    yield "palette8", png(WIDTH, HEIGHT, 8, 3, png_rows(_GREY), before=table), mask(colors[_GREY[:, :, 0]])
    yield "palette-clear", png(WIDTH, HEIGHT, 8, 3, png_rows(_GREY), before=table + chunk(b"tRNS", bytes(256))), mask(np.full_like(rgb, 255))
    yield "grey-one-clear-value", png(WIDTH, HEIGHT, 8, 0, png_rows(_GREY), before=chunk(b"tRNS", b"\0\x64")), _SIZE
    yield "rgb-one-clear-color", png(WIDTH, HEIGHT, 8, 2, png_rows(rgb), before=chunk(b"tRNS", b"\0\1\0\2\0\3")), mask(rgb)
    yield "gamma", png(WIDTH, HEIGHT, 8, 2, png_rows(rgb), before=chunk(b"gAMA", struct.pack(">I", 10000))), mask(rgb)
    yield "one-pixel", png(1, 1, 8, 2, b"\0\1\2\3"), mask(np.array([[[1, 2, 3]]], np.uint8))
    for height, width in ((1, 9000), (9000, 1), (1, 2), (7, 1), (2, 3)):
        values = pixels(height, width)
        yield f"{width}x{height}", png(width, height, 8, 2, png_rows(values)), mask(values)
    yield "interlaced", png(1, 1, 8, 2, b"\0\1\2\3", interlace=1), mask(np.array([[[1, 2, 3]]], np.uint8))


def _jpeg():
    image = picture()
    yield "grey", encoded(image.convert("L"), "JPEG"), _SIZE
    yield "cmyk", encoded(image.convert("CMYK"), "JPEG"), _SIZE
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    yield "cmyk-adobe", with_segments(encoded(image.convert("CMYK"), "JPEG"), adobe + b"\x00"), _SIZE
    yield "ycck-adobe", with_segments(encoded(image.convert("CMYK"), "JPEG"), adobe + b"\x02"), _SIZE
    yield "rgb-adobe", encoded(image, "JPEG", keep_rgb=True), _SIZE
    yield "progressive", encoded(image, "JPEG", progressive=True), _SIZE
    yield "restart", encoded(image, "JPEG", restart_marker_blocks=1), _SIZE
    yield "quality1", encoded(image, "JPEG", quality=1), _SIZE
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"subsampled-{subsampling.replace(':', '')}", encoded(image, "JPEG", subsampling=subsampling), _SIZE
    for height, width in ((1, 1), (1, 9000), (9000, 1)):
        yield f"{width}x{height}", encoded(picture(height=height, width=width), "JPEG"), sized(height, width)
    first, second = encoded(image, "JPEG"), picture(seed=1)
    yield "mpo", encoded(image, "MPO", save_all=True, append_images=[second]), _SIZE
    yield "two-pictures", first + encoded(second, "JPEG"), _SIZE
    twelve = bytearray(first)
    twelve[twelve.index(b"\xff\xc0") + 4] = 12
    yield "12bit", bytes(twelve), ERROR
    arithmetic = bytearray(first)
    arithmetic[arithmetic.index(b"\xff\xc0") + 1] = 0xC9
    yield "arithmetic", bytes(arithmetic), EITHER
    lossless = bytearray(first)
    lossless[lossless.index(b"\xff\xc0") + 1] = 0xC3
    yield "lossless", bytes(lossless), EITHER


def _gif():
    image, other = picture().quantize(8), picture(seed=1).quantize(8)
    shown = np.asarray(image.convert("RGB"))
    yield "plain", encoded(image, "GIF", interlace=0), mask(shown)
    yield "interlaced", encoded(image, "GIF", interlace=1), mask(shown)
    yield "clear-color", encoded(image, "GIF", transparency=2), _SIZE
    yield "animated", encoded(image, "GIF", save_all=True, append_images=[other, image], loop=0), _SIZE
    block = b",\2\0\1\0\1\0\1\0\0\2\2\x44\1\0"
    yield "frame-inside-screen", gif(8, 4, block + b";", palette=bytes(3) + b"\xff\0\0" + bytes(6)), EITHER
    yield "no-palette", gif(1, 1, b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"), EITHER


def _tiff():
    image = picture()
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield compression, encoded(image, "TIFF", compression=compression), mask(pixels())
    yield "jpeg", encoded(image, "TIFF", compression="jpeg"), _SIZE
    fax = image.convert("1")
    yield "group4", encoded(fax, "TIFF", compression="group4"), mask(np.asarray(fax.convert("RGB")))
    yield "cmyk", encoded(image.convert("CMYK"), "TIFF"), _SIZE
    yield "lab", encoded(Image.frombytes("LAB", image.size, image.tobytes()), "TIFF"), EITHER
    yield "ycbcr", encoded(image.convert("YCbCr"), "TIFF"), EITHER
    yield "rgba", encoded(image.convert("RGBA"), "TIFF"), mask(pixels())
    yield "palette", encoded(image.quantize(8), "TIFF"), mask(np.asarray(image.quantize(8).convert("RGB")))
    deep = ((_DEEP.astype(int) * 255 + 32767) // 65535).astype(np.uint8)
    yield "grey16", encoded(Image.fromarray(_DEEP[:, :, 0]), "TIFF"), mask(_grey(deep))
    yield "int32-in-range", encoded(Image.fromarray(_DEEP[:, :, 0].astype(np.int32)), "TIFF"), mask(_grey(deep))
    yield "int32-out-of-range", encoded(Image.fromarray(_DEEP[:, :, 0].astype(np.int32) - 100000), "TIFF"), ERROR
    yield "float32", encoded(Image.fromarray(_GREY[:, :, 0].astype(np.float32)), "TIFF"), ERROR
    yield "not-a-number", encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), ERROR
    yield "big", encoded(image, "TIFF", big_tiff=True), mask(pixels())
    yield "white-is-zero", grey_tiff(WIDTH, HEIGHT, (255 - _GREY).tobytes(), tag262=(3, 1, 0)), mask(_grey(_GREY))
    big_endian = b"MM\0*" + struct.pack(">I", 8 + _GREY.size) + _GREY.tobytes()
    entries = ((256, WIDTH), (257, HEIGHT), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, HEIGHT), (279, _GREY.size))
    big_endian += struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)
    yield "big-endian", big_endian, mask(_grey(_GREY))
    planes = np.ascontiguousarray(pixels().transpose(2, 0, 1)).tobytes()
    offsets = struct.pack("<6I", *(8 + 24 + 6 + part * WIDTH * HEIGHT for part in range(3)), *([WIDTH * HEIGHT] * 3))
    data = offsets + struct.pack("<3H", 8, 8, 8) + planes
    tags = [(256, 4, 1, WIDTH), (257, 4, 1, HEIGHT), (258, 3, 3, 32), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 3, 8), (277, 3, 1, 3), (278, 4, 1, HEIGHT), (279, 4, 3, 20), (284, 3, 1, 2)]
    body = b"".join(struct.pack("<HHII", tag, kind, count, value) for tag, kind, count, value in tags)
    yield "planes", b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + body + bytes(4), mask(pixels())
    yield "no-pixels", tiff([(256, 4, 1, 8), (257, 4, 1, 8)]), ERROR


def _bmp():
    bgr = pixels(8, 8)[::-1, :, ::-1]
    yield "24bit", bmp(8, 8, 24, bgr.tobytes()), mask(pixels(8, 8))
    yield "from-the-top", bmp(8, -8, 24, bgr[::-1].tobytes()), mask(pixels(8, 8))
    yield "32bit", bmp(8, 8, 32, np.concatenate([bgr, bgr[:, :, :1]], 2).tobytes()), mask(pixels(8, 8))
    colors = np.random.default_rng(3).integers(0, 256, (256, 4), np.uint8)
    indices = _GREY[:8, :8, 0]
    yield "8bit", bmp(8, 8, 8, indices[::-1].tobytes(), palette=colors.tobytes()), mask(colors[indices][:, :, 2::-1])
    black_white = np.repeat(np.uint8([[0, 255]] * 4), 2, axis=0)[:, :, None].repeat(4, axis=1).reshape(8, 8)
    rows = np.packbits(black_white > 0, axis=1)
    yield "1bit", bmp(8, 8, 1, np.concatenate([rows, np.zeros((8, 3), np.uint8)], 1)[::-1].tobytes(), palette=b"\0\0\0\0\xff\xff\xff\0"), mask(_grey(black_white[:, :, None]))
    yield "run-length", bmp(8, 8, 8, b"\x08\x07\0\0" * 8 + b"\0\1", palette=colors.tobytes(), compression=1), mask(np.full((8, 8, 3), colors[7][2::-1]))
    yield "16bit", bmp(8, 8, 16, bytes(128)), sized(8, 8)


def _webp():
    image = picture()
    clear = np.concatenate([pixels(), np.zeros_like(_GREY)], 2)
    yield "lossy", encoded(image, "WEBP", quality=60), _SIZE
    yield "lossless", plain("WEBP"), mask(pixels())
    yield "clear", encoded(Image.fromarray(clear), "WEBP", lossless=True, exact=True), mask(np.full_like(pixels(), 255))
    yield "half-clear", encoded(Image.fromarray(clear + np.uint8([0, 0, 0, 128])), "WEBP", lossless=True, exact=True), _SIZE
    yield "animated", encoded(image, "WEBP", save_all=True, append_images=[picture(seed=1)], lossless=True), mask(pixels())
    yield "unknown-chunk", riff((b"VP8L", plain("WEBP")[20:]), (b"JUNK", bytes(100))), EITHER
    yield "canvas-of-another-size", riff((b"VP8X", b"\0\0\0\0" + struct.pack("<I", 99)[:3] * 2), (b"VP8L", plain("WEBP")[20:])), EITHER


def files():
    """Yield `HostileFile`s."""
    for suffix, pictures in (("png", _png()), ("jpeg", _jpeg()), ("gif", _gif()), ("tiff", _tiff()), ("bmp", _bmp()), ("webp", _webp())):
        for name, data, expectation in pictures:
            yield HostileFile(f"mode-{name}.{suffix}", data, expectation)
    squeezed = zlib.compress(png_rows(pixels()), 0)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    parts = b"".join(chunk(b"IDAT", squeezed[start : start + 7]) for start in range(0, len(squeezed), 7))
    yield HostileFile("mode-many-small-idat.png", b"\x89PNG\r\n\x1a\n" + header + parts + chunk(b"IEND", b""), mask(pixels()))
