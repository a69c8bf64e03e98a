"""Decoding in the graph against training's reader, file by file, and what it refuses."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfwsss.data.image import read_image
from tfwsss.export.decode import decode_image


@pytest.fixture(scope="module")
def decode():
    return tf.function(lambda data: decode_image(data, 50.0), input_signature=[tf.TensorSpec([], tf.string)])


def encoded(picture: Image.Image, file_format: str, **arguments) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **arguments)
    return file.getvalue()


def with_orientation(picture: Image.Image, file_format: str, orientation: int, **arguments) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "a camera maker"
    exif[0x0112] = orientation
    return encoded(picture, file_format, exif=exif, **arguments)


def as_training_reads(data: bytes, tmp_path) -> np.ndarray:
    path = tmp_path / "photo"
    path.write_bytes(data)
    return read_image(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds a row or so of zeros, compressed well."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A real JPEG whose frame header announces another size."""
    data = bytearray(encoded(Image.new("RGB", (64, 64), "red"), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


PICTURES = {
    "jpeg": lambda p: encoded(p, "JPEG", quality=90),
    "jpeg 4:4:4": lambda p: encoded(p, "JPEG", quality=75, subsampling=0),
    "jpeg progressive": lambda p: encoded(p, "JPEG", progressive=True),
    "jpeg grey": lambda p: encoded(p.convert("L"), "JPEG"),
    "png": lambda p: encoded(p, "PNG"),
    "png grey": lambda p: encoded(p.convert("L"), "PNG"),
    "png 1 bit": lambda p: encoded(p.convert("1"), "PNG"),
    "png palette": lambda p: encoded(p.quantize(16), "PNG"),
    "png palette with transparency": lambda p: encoded(p.quantize(16), "PNG", transparency=3),
    "png grey with transparency": lambda p: encoded(p.convert("L"), "PNG", transparency=127),
    "png alpha": lambda p: encoded(Image.merge("RGBA", (*p.split(), p.convert("L"))), "PNG"),
    "png grey alpha": lambda p: encoded(Image.merge("LA", (p.convert("L"), p.split()[0])), "PNG"),
    "png 16 bits": lambda p: encoded(Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 251 + 77), "PNG"),
    "png interlaced": lambda p: encoded(p, "PNG", interlace=1),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pixels_are_those_that_training_sees(decode, photo, tmp_path, kind):
    data = PICTURES[kind](Image.fromarray(photo(45, 67)))
    np.testing.assert_array_equal(decode(data).numpy(), as_training_reads(data, tmp_path))


def test_cmyk_differs_from_training_by_one_level_at_most(decode, photo, tmp_path):
    data = encoded(Image.fromarray(photo(45, 67)).convert("CMYK"), "JPEG")
    difference = decode(data).numpy().astype(int) - as_training_reads(data, tmp_path)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(decode, photo, tmp_path, file_format, orientation):
    data = with_orientation(Image.fromarray(photo(24, 40)), file_format, orientation)
    found = decode(data).numpy()
    np.testing.assert_array_equal(found, as_training_reads(data, tmp_path))
    assert found.shape == ((40, 24, 3) if orientation >= 5 else (24, 40, 3))


def test_orientation_is_found_in_both_byte_orders_and_behind_other_segments(decode, photo):
    plain = encoded(Image.fromarray(photo(24, 40)), "JPEG")
    for order, short, long in ((b"II", "<H", "<I"), (b"MM", ">H", ">I")):
        entry = struct.pack(short, 0x0112) + struct.pack(short, 3) + struct.pack(long, 1) + struct.pack(short, 6) + b"\0\0"
        tiff = order + struct.pack(short, 42) + struct.pack(long, 8) + struct.pack(short, 1) + entry + bytes(4)
        exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
        other = b"\xff\xe1" + struct.pack(">H", 40002) + b"x" * 40000
        fill = b"\xff\xff"
        assert decode(plain[:2] + other + fill + exif + plain[2:]).shape == (40, 24, 3)


@pytest.mark.parametrize("cut", [0, 3, 7, 9, 12, 18])
def test_a_damaged_exif_block_leaves_the_photo_as_stored(decode, photo, cut):
    plain = encoded(Image.fromarray(photo(24, 40)), "JPEG")
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"[:cut] + b"\xff" * (22 - cut)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    assert decode(plain[:2] + exif + plain[2:]).shape == (24, 40, 3)


@pytest.mark.parametrize(
    "data",
    [png_of_size(20000, 20000), jpeg_of_size(20000, 20000), png_of_size(2**31 - 1, 2**31 - 1), jpeg_of_size(65500, 65500)],
    ids=["png", "jpeg", "largest png", "largest jpeg"],
)
def test_bombs_are_refused_by_their_header(decode, data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the header announces"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"hello, this is no picture",
        encoded(Image.new("RGB", (8, 8)), "GIF"),
        encoded(Image.new("RGB", (8, 8)), "WEBP"),
        encoded(Image.new("RGB", (8, 8)), "BMP"),
    ],
    ids=["empty", "one byte", "text", "gif", "webp", "bmp"],
)
def test_other_formats_are_refused(decode, data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected the bytes of a JPEG or PNG"):
        decode(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_truncated_files_are_errors(decode, photo, file_format):
    data = encoded(Image.fromarray(photo(64, 64)), file_format)
    for length in (9, 30, len(data) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(data[:length])


def test_zero_pixels_are_refused(decode):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(png_of_size(0, 100))


def test_a_chunk_longer_than_the_file_is_refused_before_libpng_reserves_its_memory(decode):
    data = png_of_size(8, 8)
    for length in (2**31 - 1, 1000):
        with pytest.raises(tf.errors.InvalidArgumentError, match="cut off or has too many chunks"):
            decode(data[:33] + struct.pack(">I", length) + b"tEXt" + data[33:])


def test_files_of_countless_parts_are_refused(decode, photo):
    data = encoded(Image.fromarray(photo(8, 8)), "PNG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many chunks"):
        decode(data[:33] + chunk(b"tEXt", b"") * 70_000 + data[33:])
    data = encoded(Image.fromarray(photo(8, 8)), "JPEG")
    with pytest.raises(tf.errors.InvalidArgumentError, match="4096 segments"):
        decode(data[:2] + b"\xff" * 1_000_000 + data[2:])
    scan = data.index(b"\xff\xda")
    with pytest.raises(tf.errors.InvalidArgumentError, match="100 scans"):
        decode(data[:-2] + data[scan:-2] * 100 + b"\xff\xd9")


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">%s</x:xmpmeta>'


@pytest.mark.parametrize("text", [b'<a tiff:Orientation="6"/>', b"<tiff:Orientation>8</tiff:Orientation>", b'tiff:Orientation tiff:Orientation="3"', b'tiff:Orientation="9"', b'tiff:Orientation="', b"\xff\xfe"])
@pytest.mark.parametrize("exif", [None, 1, 5])
def test_xmp_turns_where_exif_does_not_say(decode, photo, tmp_path, text, exif):
    arguments = {} if exif is None else {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([exif, 0, 0, 0]) + bytes(4)}
    picture = Image.fromarray(photo(23, 34))
    data = encoded(picture, "JPEG", xmp=XMP % text, **arguments)
    np.testing.assert_array_equal(decode(data).numpy(), as_training_reads(data, tmp_path))
    data = encoded(picture, "PNG", **arguments)
    packet = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % text
    data = data[:33] + chunk(b"iTXt", packet) + data[33:]
    np.testing.assert_array_equal(decode(data).numpy(), as_training_reads(data, tmp_path))
