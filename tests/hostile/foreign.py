"""Things that are no photos, photos of formats that are not read, and files that are two things at once."""

import base64
import gzip
import io
import json
import struct
import tarfile
import time
import zipfile

import numpy as np

from .encode import HEIGHT, WIDTH, encoded, picture, pixels, plain, segment, with_segments
from .expectation import EITHER, ERROR, HostileFile, mask, sized

_HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>"
_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
_ENTITIES = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><svg>&c;&c;&c;</svg>'
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 24\n%%EndComments\n(%pipe%id) (r) file\nshowpage\n"


def _archive(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def _tar(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _no_photos():
    """Bytes of another kind, under names that claim otherwise."""
    yield HostileFile("empty.jpeg", b"", ERROR)
    yield HostileFile("empty.png", b"", ERROR)
    for length in (1, 2, 1000, 1_000_000):
        yield HostileFile(f"zeros-{length}.jpeg", bytes(length), ERROR)
        yield HostileFile(f"ones-{length}.png", b"\xff" * length, ERROR)
    rng = np.random.default_rng(5)
    for length in (7, 100, 10_000, 500_000):
        yield HostileFile(f"noise-{length}.jpeg", rng.bytes(length), ERROR)
    contents = {
        "text.jpeg": b"not a photo\n",
        "utf16.png": "\ufeffnot a photo".encode("utf-16"),
        "newlines.gif": b"\n" * 1000,
        "page.jpeg": _HTML,
        "script.png": b"#!/bin/sh\necho no\n",
        "object.json": json.dumps({"b64": base64.b64encode(plain("PNG")).decode()}).encode(),
        "base64.png": base64.b64encode(plain("PNG")),
        "data-url.jpeg": b"data:image/jpeg;base64," + base64.b64encode(plain("JPEG")),
        "path.txt": b"/etc/passwd",
        "url.txt": b"http://localhost/photo.jpg",
        "vector.svg": _SVG,
        "entities.svg": _ENTITIES,
        "gzip.png": gzip.compress(plain("PNG"), mtime=0),
        "archive.zip": _archive("photo.png", plain("PNG")),
        "archive.tar": _tar("photo.png", plain("PNG")),
        "array.npy": _npy(pixels()),
        "objects.pkl": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
        "program.jpeg": b"\x7fELF\x02\x01\x01" + bytes(200),
        "windows.png": b"MZ" + bytes(200),
        "class.jpeg": b"\xca\xfe\xba\xbe" + bytes(200),
        "wasm.png": b"\0asm\1\0\0\0",
        "sound.wav": b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + bytes(92),
        "film.avi": b"RIFF" + struct.pack("<I", 100) + b"AVI LIST" + bytes(92),
        "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(200),
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(200),
        "photo.jxl": b"\xff\x0a" + bytes(200),
        "camera.cr3": b"\0\0\0\x18ftypcrx " + bytes(200),
        "camera.raf": b"FUJIFILMCCD-RAW " + bytes(200),
        "layers.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(300),
        "stars.fits": b"SIMPLE  =                    T" + bytes(2850),
        "postscript.eps": _EPS,
        "postscript.jpeg": _EPS,
        "metafile.wmf": b"\xd7\xcd\xc6\x9a" + bytes(100),
        "table.parquet": b"PAR1" + bytes(100) + b"PAR1",
        "model.onnx": b"\x08\x08\x12\x07pytorch" + bytes(100),
        "model.h5": b"\x89HDF\r\n\x1a\n" + bytes(500),
    }
    for name, data in contents.items():
        yield HostileFile(f"wrong-{name}", data, ERROR)


def _other_formats():
    """Real pictures of formats that are deliberately not read."""
    image = picture()
    for file_format in ("PPM", "ICO", "TGA", "PCX", "DDS", "SGI", "SPIDER", "JPEG2000", "AVIF", "EPS", "BLP", "ICNS"):
        try:
            data = encoded(image.convert("L") if file_format == "SPIDER" else image.quantize(8) if file_format == "BLP" else image, file_format)
        except (OSError, KeyError, ValueError):  # this Pillow was built without it
            continue
        yield HostileFile(f"format-not-read.{file_format.lower()}", data, ERROR)
    made = time.gmtime(0)
    yield HostileFile("format-not-read.pdf", encoded(image, "PDF", creationDate=made, modDate=made), ERROR)
    yield HostileFile("format-not-read.xbm", encoded(image.convert("1"), "XBM"), ERROR)
    yield HostileFile("format-not-read.msp", encoded(image.convert("1"), "MSP"), ERROR)


def _two_at_once():
    """Polyglots: what counts is the first thing that the bytes are."""
    whole = mask(pixels())
    for file_format in ("PNG", "BMP", "TIFF", "WEBP"):
        suffix = file_format.lower()
        yield HostileFile(f"polyglot-zip-behind.{suffix}", plain(file_format) + _archive("evil.py", b"print(1)"), whole)
        yield HostileFile(f"polyglot-page-behind.{suffix}", plain(file_format) + _HTML, whole)
    for file_format in ("JPEG", "GIF"):
        suffix = file_format.lower()
        yield HostileFile(f"polyglot-zip-behind.{suffix}", plain(file_format) + _archive("evil.py", b"print(1)"), sized(HEIGHT, WIDTH))
        yield HostileFile(f"polyglot-page-behind.{suffix}", plain(file_format) + _HTML, sized(HEIGHT, WIDTH))
        yield HostileFile(f"polyglot-second-picture-behind.{suffix}", plain(file_format) + plain("PNG"), sized(HEIGHT, WIDTH))
    yield HostileFile("polyglot-page-in-comment.jpeg", with_segments(plain("JPEG"), segment(0xFE, _HTML)), sized(HEIGHT, WIDTH))
    yield HostileFile("polyglot-script-in-header.bmp", plain("BMP")[:6] + b"/*!*" + plain("BMP")[10:] + b"*/=1;alert(1)", whole)
    yield HostileFile("polyglot-pdf-around.jpeg", b"%PDF-1.4\n1 0 obj\nstream\n" + plain("JPEG") + b"\nendstream\n%%EOF", ERROR)
    yield HostileFile("polyglot-gif-magic-then-jpeg.jpeg", b"GIF89a" + plain("JPEG"), ERROR)
    yield HostileFile("polyglot-png-magic-then-jpeg.png", plain("PNG")[:8] + plain("JPEG"), ERROR)
    yield HostileFile("polyglot-jpeg-magic-then-png.jpeg", b"\xff\xd8\xff" + plain("PNG"), EITHER)
    yield HostileFile("polyglot-page-then-jpeg.jpeg", _HTML + plain("JPEG"), ERROR)
    yield HostileFile("polyglot-newline-then-png.png", b"\n" + plain("PNG"), ERROR)
    yield HostileFile("polyglot-byte-order-mark-then-jpeg.jpeg", b"\xef\xbb\xbf" + plain("JPEG"), ERROR)
    yield HostileFile("polyglot-half-png-half-jpeg.png", plain("PNG")[: len(plain("PNG")) // 2] + plain("JPEG"), ERROR)
    yield HostileFile("polyglot-two-headers.png", plain("PNG")[:33] + plain("PNG")[8:], EITHER)
    for claimed, real in (("png", "JPEG"), ("jpeg", "PNG"), ("jpeg", "BMP"), ("gif", "WEBP"), ("tiff", "GIF"), ("txt", "TIFF")):
        yield HostileFile(f"named-otherwise-{real.lower()}.{claimed}", plain(real), sized(HEIGHT, WIDTH))


def files():
    """Yield `HostileFile`s."""
    yield from _no_photos()
    yield from _other_formats()
    yield from _two_at_once()
