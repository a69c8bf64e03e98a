"""Photos and masks from disk: every kind of file a camera or a mistake can produce."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tfwsss.data.image import image_size, read_image, read_mask
from tfwsss.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)

# What a viewer does with a stored picture, by EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def save(picture, path, **options):
    picture.save(path, **options)
    return path


def png_header(width, height):
    """A PNG that announces a size and stops before any pixel."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


def jpeg_bytes(shape=(60, 80)):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@settings(max_examples=25, deadline=None)
@given(pixels=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_rgb_is_returned_as_stored_and_writable(pixels, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "rgb.png"
    Image.fromarray(pixels).save(path)
    found = read_image(path)
    np.testing.assert_array_equal(found, pixels)
    found[0, 0] = 0
    assert image_size(path) == pixels.shape[:2]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(Image.fromarray(PIXELS), tmp_path / f"a.{suffix}", exif=exif, **options)
    expected = UPRIGHT[orientation](PIXELS)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


def test_exif_orientation_of_a_jpeg(tmp_path):
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows run down the right side
    path = save(Image.fromarray(halves), tmp_path / "a.jpg", exif=exif, quality=95)
    found = read_image(path)
    assert found.shape == (80, 40, 3) and image_size(path) == (80, 40)
    assert found[:32].max() < 10 and found[48:].min() > 245


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("damaged", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(3), b"Exif\0\0MM\0*garbage"])
def test_damaged_exif_does_not_spoil_the_photo(tmp_path, damaged):
    path = save(Image.fromarray(PIXELS), tmp_path / "a.jpg", exif=damaged)
    assert read_image(path).shape == PIXELS.shape and image_size(path) == PIXELS.shape[:2]


@settings(max_examples=25, deadline=None)
@given(values=hnp.arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_16_bit_grey_is_scaled(values, tmp_path_factory):
    expected = np.round(values.astype(np.float64) / 65535 * 255)
    for name in ("a.png", "a.tiff"):
        path = tmp_path_factory.getbasetemp() / name
        Image.fromarray(values).save(path)
        found = read_image(path)
        assert found.dtype == np.uint8
        for channel in range(3):
            np.testing.assert_allclose(found[..., channel], expected, atol=0)


def test_32_bit_grey_beyond_16_bits_is_refused(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), 70000, np.int32)), tmp_path / "a.tiff")
    with pytest.raises(ImageError, match="70000.*expected 0..65535"):
        read_image(path)


def test_floating_point_photo_is_refused(tmp_path):
    path = save(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "a.tiff")
    with pytest.raises(ImageError, match="floating-point"):
        read_image(path)


def test_grey_palette_and_one_bit(tmp_path):
    grey = PIXELS[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(Image.fromarray(grey), tmp_path / "grey.png")), three)
    palette = Image.fromarray(grey // 64)
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    colours = np.arange(10, 130, 10, dtype=np.uint8).reshape(4, 3)
    np.testing.assert_array_equal(read_image(save(palette, tmp_path / "p.png")), colours[grey // 64])
    bits = Image.fromarray(grey > 127)
    np.testing.assert_array_equal(read_image(save(bits, tmp_path / "bits.png")), 255 * (three > 127))


def test_cmyk_jpeg(tmp_path):
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red
    found = read_image(save(cmyk, tmp_path / "a.jpg", quality=95))
    assert found.shape == (16, 16, 3)
    assert (found[..., 0] > 240).all() and (found[..., 1:] < 15).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_over_white(tmp_path, mode):
    ink = np.array([[60, 60], [60, 60]], np.uint8)
    alpha = np.array([[0, 255], [128, 255]], np.uint8)
    picture = Image.merge(mode, [Image.fromarray(ink)] * (3 if mode == "RGBA" else 1) + [Image.fromarray(alpha)])
    found = read_image(save(picture, tmp_path / "a.png"))
    expected = np.round(ink * (alpha / 255) + 255 * (1 - alpha / 255))
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], expected, atol=1)


def test_transparent_palette_entry_lies_over_white(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([0, 0, 0, 200, 0, 0])
    found = read_image(save(palette, tmp_path / "a.png", transparency=0))
    np.testing.assert_array_equal(found, [[[255, 255, 255], [200, 0, 0]]])


def test_first_frame_of_an_animation(tmp_path):
    red, blue = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")
    found = read_image(save(red, tmp_path / "a.gif", save_all=True, append_images=[blue]))
    np.testing.assert_array_equal(found, np.broadcast_to(np.uint8([255, 0, 0]), (4, 6, 3)))


def test_stereo_jpeg_of_a_camera(tmp_path):
    red, blue = Image.new("RGB", (32, 16), "red"), Image.new("RGB", (32, 16), "blue")
    path = tmp_path / "a.jpg"
    red.save(path, "MPO", save_all=True, append_images=[blue])
    assert read_image(path)[..., 0].min() > 240


def test_one_pixel(tmp_path):
    path = save(Image.new("RGB", (1, 1), (1, 2, 3)), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path), [[[1, 2, 3]]])


def test_48_megapixels_are_within_the_default_limit_and_above_a_lower_one(tmp_path):
    path = save(Image.new("L", (8000, 6000), 128), tmp_path / "a.jpg")
    assert read_image(path).shape == (6000, 8000, 3)
    with pytest.raises(ImageError, match=r"a\.jpg: too large: 8000x6000 px are 48 megapixels, the limit is 40 "):
        read_image(path, max_megapixels=40)


@pytest.mark.parametrize("side", [8000, 60_000])  # the second is beyond Pillow's own limit, which must not interfere
def test_size_is_refused_before_pixels_are_decoded(tmp_path, side):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(ImageError, match=f"too large: {side}x{side} px .* limit is 50 "):
        read_image(path)
    with pytest.raises(ImageError, match="too large"):
        read_mask(path)
    assert image_size(path) == (side, side)


@pytest.mark.filterwarnings("error")
def test_a_higher_limit_than_pillows_own_works(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = save(Image.fromarray(PIXELS), tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(path), PIXELS)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_truncated_jpeg(tmp_path, part):
    path, content = tmp_path / "cut.jpg", jpeg_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ImageError, match=r"cut\.jpg: .*(truncated|cannot be decoded)"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_nothing_but_image_errors(data, tmp_path_factory):
    stream = io.BytesIO()
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
    Image.fromarray(PIXELS).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for read in (read_image, read_mask, image_size):
        try:
            read(path, 1.0) if read is not image_size else read(path)
        except ImageError as error:
            assert str(path) in str(error)


def test_what_is_no_photo_at_all(tmp_path):
    empty, text, ppm = tmp_path / "empty.jpg", tmp_path / "text.jpg", tmp_path / "a.jpg"
    empty.write_bytes(b"")
    text.write_text("hello")
    Image.fromarray(PIXELS).save(ppm, "PPM")  # a format that is not on the list, whatever the file's name
    for path, reason in (
        (empty, "empty"),
        (text, "not an image"),
        (ppm, "not an image"),
        (tmp_path / "no", "no such file"),
    ):
        for read in (read_image, image_size, read_mask):
            with pytest.raises(ImageError, match=f"{path.name}: .*{reason}"):
                read(path)
    with pytest.raises(ImageError):
        read_image(tmp_path)


def test_mask_gives_indices_not_colours(tmp_path):
    label = np.array([[0, 1, 20], [255, 7, 0]], np.uint8)
    picture = Image.fromarray(label)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    np.testing.assert_array_equal(read_mask(save(picture, tmp_path / "a.png")), label)
    np.testing.assert_array_equal(read_mask(save(Image.fromarray(label), tmp_path / "grey.png")), label)
    np.testing.assert_array_equal(read_mask(save(Image.fromarray(label > 0), tmp_path / "bit.png")), label > 0)


def test_mask_with_colours_or_large_values_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"c\.png: a mask of mode RGB"):
        read_mask(save(Image.fromarray(PIXELS), tmp_path / "c.png"))
    with pytest.raises(ImageError, match=r"d\.png: mask values 0\.\.256, expected 0\.\.255"):
        read_mask(save(Image.fromarray(np.array([[0, 256]], np.uint16)), tmp_path / "d.png"))


def test_readers_do_not_import_tensorflow():
    program = "import sys, tfwsss.data, tfwsss.data.check, tfwsss.data.doctor; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_jpeg_of_many_scans_is_refused_before_decoding(tmp_path):
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(data, "JPEG", progressive=True)
    data = data.getvalue()
    last = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]  # the last scan and its table
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-2] + last * 200 + b"\xff\xd9")
    with pytest.raises(ImageError, match=r"a.jpg: cannot be decoded: a JPEG of \d+ scans, the limit is 100"):
        read_image(path)
    path.write_bytes(data[:-2] + last * 50 + b"\xff\xd9")
    assert read_image(path).ndim == 3


def test_a_message_gives_the_reason_as_it_is(tmp_path, monkeypatch):
    import os

    monkeypatch.chdir(tmp_path)
    os.mkfifo("f")
    (tmp_path / "a").mkdir()
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).convert("RGB").save(buffer, "JPEG")
    (tmp_path / "c").write_bytes(buffer.getvalue()[:-300])
    for name, reason in (("a", "a: a folder, expected the file of a photo"), ("f", "f: not a regular file"), ("c", "c: cannot be decoded: .*[Tt]runcated")):
        with pytest.raises(ImageError, match=reason):
            read_image(name)
