"""Small pictures and the pieces of files: what the hostile files are made of."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 40
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
ARGUMENTS: dict[str, dict] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
}
LOSSLESS = ("PNG", "BMP", "TIFF", "WEBP")


def pixels(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]: smooth, coloured, different at each corner (so that a wrong turn shows)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(rng.uniform(0.1, 0.4) * y + rng.uniform(0.1, 0.4) * x + rng.uniform(0, 6)) for _ in range(3)]
    return np.uint8(np.clip(127 + 100 * np.stack(waves, axis=2) + (y + x)[:, :, None] % 7, 0, 255))


def picture(**arguments) -> Image.Image:
    """`pixels` as a PIL image."""
    return Image.fromarray(pixels(**arguments))


def encoded(image: Image.Image, file_format: str, **arguments) -> bytes:
    """The bytes of a file of that format."""
    file = io.BytesIO()
    image.save(file, file_format, **arguments)
    return file.getvalue()


def plain(file_format: str) -> bytes:
    """A good file of one of the formats that are read."""
    return encoded(picture(), file_format, **ARGUMENTS[file_format])


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with a right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *, before: bytes = b"", after: bytes = b"", interlace: int = 0) -> bytes:
    """A PNG of the given header and (uncompressed, filtered) rows; `before` and `after` are chunks around the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    return PNG_MAGIC + header + before + chunk(b"IDAT", zlib.compress(rows, 9)) + after + chunk(b"IEND", b"")


def png_rows(samples: np.ndarray) -> bytes:
    """[H, W, C] uint8 or uint16 samples as PNG rows without filter."""
    big_endian = samples.astype(samples.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big_endian)


def segment(marker: int, content: bytes) -> bytes:
    """A JPEG segment."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments put in at its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def with_frame(jpeg: bytes, height: int, width: int) -> bytes:
    """A JPEG whose frame header announces another size."""
    data = bytearray(jpeg)
    frame = next(data.index(b"\xff" + bytes([kind])) for kind in (0xC0, 0xC2) if b"\xff" + bytes([kind]) in data)
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def riff(*chunks) -> bytes:
    """A WEBP container of (fourcc, content) chunks."""
    body = b"".join(kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff(entries, data: bytes = b"", *, next_ifd: int = 0) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, value) entries, `data` at offset 8.

    A type of 3 is a 16-bit number, 4 a 32-bit number; anything longer than four bytes is an offset.
    """
    ifd = 8 + len(data)
    body = b"".join(struct.pack("<HHI", tag, kind, count) + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)) for tag, kind, count, value in entries)
    return b"II*\0" + struct.pack("<I", ifd) + data + struct.pack("<H", len(entries)) + body + struct.pack("<I", next_ifd)


def grey_tiff(width: int, height: int, data: bytes, **replaced) -> bytes:
    """An 8-bit grey TIFF in one strip; `replaced` maps "tag<number>" to (type, count, value)."""
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, len(data))}
    next_ifd = replaced.pop("next_ifd", 0)
    entries.update({int(tag[3:]): entry for tag, entry in replaced.items()})
    return tiff([(tag, *entry) for tag, entry in sorted(entries.items())], data, next_ifd=next_ifd)


def bmp(width: int, height: int, bits: int, data: bytes, *, palette: bytes = b"", compression: int = 0, offset: int = -1) -> bytes:
    """A BMP of a 40-byte header; `height` may be negative (rows from the top)."""
    start = 54 + len(palette) if offset < 0 else offset
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 2835, 2835, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(palette) + len(data), 0, 0, start) + header + palette + data


def gif(width: int, height: int, body: bytes, *, palette: bytes = b"") -> bytes:
    """A GIF header, an optional global palette (a power of two colours), then the given blocks."""
    flags = 0x80 | ((len(palette) // 3).bit_length() - 2) if palette else 0
    return b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0) + palette + body
