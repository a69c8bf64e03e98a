"""Reading JPEG and PNG inside a TensorFlow graph, the way training reads files, with the size checked before decoding."""

import tensorflow as tf

from tfwsss.export.orientation import jpeg_orientation, png_orientation, upright

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"


def _png_size(data):
    """(height, width) int64 from the IHDR chunk; fails when the first chunk is another."""
    is_png = tf.logical_and(tf.strings.length(data) >= 33, tf.equal(tf.strings.substr(data, 12, 4), b"IHDR"))
    check = tf.debugging.Assert(is_png, ["image_bytes: a PNG without a whole IHDR chunk"])
    with tf.control_dependencies([check]):
        fields = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int64)
    width_height = tf.reduce_sum(tf.reshape(fields, [2, 4]) * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)
    return width_height[1], width_height[0]


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


def _decode_jpeg(data, max_megapixels):
    data = _within_limit(data, *_jpeg_size(data), max_megapixels)
    # The default inverse DCT is faster and differs from libjpeg's (and so from Pillow's) by a grey level here and there.
    image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(image, jpeg_orientation(data))


def _decode_png(data, max_megapixels):
    data = _within_limit(data, *_png_size(data), max_megapixels)
    return upright(tf.io.decode_png(data, channels=3), png_orientation(data))


def decode_image(data, max_megapixels: float):
    """Decode one JPEG or PNG.

    Args:
        data: scalar string tensor, the file's bytes.
        max_megapixels: files whose header announces more pixels are refused before anything is decoded.

    Returns:
        uint8 [H, W, 3] RGB, turned upright by the EXIF orientation of a JPEG or of a PNG's eXIf chunk; alpha is dropped.

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
