"""Reading JPEG and PNG inside a TensorFlow graph, the way training reads files, with the size checked before decoding."""

import tensorflow as tf

from tfwsss.export.orientation import jpeg_orientation, png_orientation, upright
from tfwsss.export.png_chunks import png_chunks
from tfwsss.export.raw_bytes import equals

# An encoder writes about ten; each costs a pass over the whole picture, however few bytes it has.
_MOST_SCANS = 100
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"


def _png_header(data):
    """(height, width, bit depth, colour type) int64 from the IHDR chunk; fails when the first chunk is another."""
    raw = tf.io.decode_raw(tf.strings.substr(data, 0, 33), tf.uint8)
    check = tf.debugging.Assert((tf.size(raw) == 33) & equals(raw, 12, b"IHDR"), ["image_bytes: a PNG without a whole IHDR chunk"])
    with tf.control_dependencies([check]):
        fields = tf.cast(tf.ensure_shape(raw, [33])[16:26], tf.int64)
    width, height = tf.unstack(tf.reduce_sum(tf.reshape(fields[:8], [2, 4]) * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1))
    return height, width, fields[8], fields[9]


def _jpeg_size(data):
    shape = tf.cast(tf.io.extract_jpeg_shape(data), tf.int64)
    return shape[0], shape[1]


def _within_limit(data, height, width, max_megapixels: float):
    """`data`, available only when the announced size is from 1 pixel to the limit."""
    pixels = height * width
    message = tf.strings.join(
        ["image_bytes: the header announces ", tf.strings.as_string(height), "x", tf.strings.as_string(width), f" pixels, expected 1 pixel to {max_megapixels:g} megapixels"]
    )
    fits = tf.logical_and(tf.logical_and(height > 0, width > 0), pixels <= int(max_megapixels * 1e6))
    with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
        return tf.identity(data)


def _few_scans(raw):
    """An operation that fails when a JPEG, uint8 [N], has too many scans."""
    scans = tf.math.count_nonzero(tf.equal(raw[:-1], 0xFF) & tf.equal(raw[1:], 0xDA))
    return tf.debugging.Assert(scans <= _MOST_SCANS, [f"image_bytes: a JPEG of more than {_MOST_SCANS} scans"])


def _decode_jpeg(data, max_megapixels):
    height, width = _jpeg_size(data)
    data = _within_limit(data, height, width, max_megapixels)
    raw = tf.io.decode_raw(data, tf.uint8)
    orientation = jpeg_orientation(data, raw)
    with tf.control_dependencies([_few_scans(raw), orientation]):
        data = tf.identity(data)
    # The default inverse DCT is faster and differs from libjpeg's (and so from Pillow's) by a grey level here and there.
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(image, orientation)


def _over_white(image):
    """[H, W, 4] uint8 -> [H, W, 3] uint8, in the integer arithmetic of Pillow's alpha_composite."""
    image = tf.cast(image, tf.int32)
    color, alpha = image[..., :3], image[..., 3:]
    total = 128 * (color * alpha + 255 * (255 - alpha)) + 128 * 128
    return tf.cast((total // 256 + total) // 256 // 128, tf.uint8)


def _grey_16_bits(data):
    # libpng would keep the high byte; training rounds 0..65535 to 0..255.
    values = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), tf.int32)
    return tf.repeat(tf.cast((values * 255 + 32767) // 65535, tf.uint8), 3, axis=2)


def _decode_png(data, max_megapixels):
    height, width, depth, color = _png_header(data)
    data = _within_limit(data, height, width, max_megapixels)
    raw = tf.io.decode_raw(data, tf.uint8)
    chunks = png_chunks(raw)
    with tf.control_dependencies([chunks.exif]):
        data = tf.identity(data)
    # Asked for alpha that is not there, TensorFlow makes it up, wrongly below 8 bits a channel.
    has_alpha = (color == 4) | (color == 6) | (chunks.transparency >= 0)
    image = tf.case(
        [
            ((color == 0) & (depth == 16), lambda: _grey_16_bits(data)),
            (has_alpha, lambda: _over_white(tf.io.decode_png(data, channels=4))),
        ],
        default=lambda: tf.io.decode_png(data, channels=3),
    )
    return upright(image, png_orientation(data, raw, chunks))


def decode_image(data, max_megapixels: float):
    """Decode one JPEG or PNG.

    Args:
        data: scalar string tensor, the file's bytes.
        max_megapixels: files whose header announces more pixels are refused before anything is decoded.

    Returns:
        uint8 [H, W, 3] RGB, turned upright by the EXIF orientation of a JPEG or of a PNG's eXIf chunk (before the
        pixels) or else that of XMP, transparent pixels laid over white, 16-bit grey scaled: as `tfwsss.data.image.read_image`. CMYK may differ by
        one grey level.

    Raises (in the graph):
        InvalidArgumentError: neither JPEG nor PNG, damaged, empty, or larger than the limit.
    """
    is_png = tf.equal(tf.strings.substr(data, 0, 8), _PNG_MAGIC)
    is_jpeg = tf.equal(tf.strings.substr(data, 0, 3), _JPEG_MAGIC)
    check = tf.debugging.Assert(tf.logical_or(is_png, is_jpeg), ["image_bytes: expected the bytes of a JPEG or PNG file"])
    with tf.control_dependencies([check]):
        data = tf.identity(data)
    image = tf.cond(is_png, lambda: _decode_png(data, max_megapixels), lambda: _decode_jpeg(data, max_megapixels))
    return tf.ensure_shape(image, [None, None, 3])
