"""EXIF orientation inside a TensorFlow graph. TensorFlow's decoders ignore it; training turns photos upright.

Every read is clipped to the file, so that a damaged block gives orientation 1 (as stored) and never an error.
"""

import tensorflow as tf

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_MAX_ENTRIES = 512  # entries of the first directory that are looked at; cameras write about a dozen


def _at(raw, position):
    """Bytes at `position` (any shape, int32) as int32; 0 outside the file."""
    inside = tf.logical_and(position >= 0, position < tf.size(raw))
    return tf.where(inside, tf.cast(tf.gather(raw, tf.where(inside, position, 0)), tf.int32), 0)


def _number(raw, position, count: int, little):
    """Unsigned number of `count` bytes; 4-byte numbers beyond the int32 range come out negative."""
    parts = [_at(raw, position + index) for index in range(count)]
    big = sum(part * (1 << 8 * (count - 1 - index)) if count - 1 - index < 3 else tf.bitwise.left_shift(part, 24) for index, part in enumerate(parts))
    small = sum(part * (1 << 8 * index) if index < 3 else tf.bitwise.left_shift(part, 24) for index, part in enumerate(parts))
    return tf.where(little, small, big)


def _equals(raw, position, text: bytes):
    return tf.reduce_all(tf.equal(_at(raw, position + tf.range(len(text))), tf.constant(list(text), tf.int32)))


def _tiff_orientation(raw, start):
    """Orientation 1..8 from the TIFF block at byte `start`; 1 when it is absent or damaged."""
    little = tf.equal(_at(raw, start), ord("I"))
    directory = _number(raw, start + 4, 4, little)
    valid = tf.logical_and(directory >= 8, directory < tf.size(raw))
    directory = start + tf.where(valid, directory, 0)
    count = tf.minimum(_number(raw, directory, 2, little), _MAX_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    wanted = tf.logical_and(tf.equal(_number(raw, entries, 2, little), _ORIENTATION_TAG), tf.equal(_number(raw, entries + 2, 2, little), _SHORT))
    value = tf.reduce_max(tf.concat([[0], tf.where(wanted, _number(raw, entries + 8, 2, little), 0)], 0))
    return tf.where(valid & (value >= 1) & (value <= 8), value, 1)


def jpeg_orientation(data):
    """EXIF orientation (int32 scalar, 1..8) of a JPEG file given as a scalar string tensor."""
    raw = tf.io.decode_raw(data, tf.uint8)
    big = tf.constant(False)

    def header_goes_on(position, found):
        marker = _at(raw, position + 1)
        in_header = tf.equal(_at(raw, position), 0xFF) & tf.not_equal(marker, 0xDA) & tf.not_equal(marker, 0xD9)
        return (found < 0) & (position + 4 <= tf.size(raw)) & in_header

    def next_segment(position, found):
        marker = _at(raw, position + 1)
        is_exif = tf.equal(marker, 0xE1) & _equals(raw, position + 4, b"Exif\x00\x00")
        # A marker may be preceded by any number of 0xFF fill bytes.
        step = tf.where(tf.equal(marker, 0xFF), 1, 2 + tf.maximum(_number(raw, position + 2, 2, big), 2))
        return position + step, tf.where(is_exif, position + 10, -1)

    _, found = tf.while_loop(header_goes_on, next_segment, [tf.constant(2), tf.constant(-1)])
    return tf.where(found >= 0, _tiff_orientation(raw, tf.maximum(found, 0)), 1)


def png_orientation(data):
    """Orientation (int32 scalar, 1..8) from the eXIf chunk of a PNG file, where that precedes the pixels."""
    raw = tf.io.decode_raw(data, tf.uint8)
    big = tf.constant(False)

    def header_goes_on(position, found):
        return (found < 0) & (position >= 0) & (position + 12 <= tf.size(raw)) & tf.logical_not(_equals(raw, position + 4, b"IDAT"))

    def next_chunk(position, found):
        length = _number(raw, position, 4, big)
        is_exif = _equals(raw, position + 4, b"eXIf")
        # A length that leaves the file ends the search; adding it could wrap around.
        leaves = (length < 0) | (length > tf.size(raw))
        return tf.where(leaves, -1, position + 12 + tf.where(leaves, 0, length)), tf.where(is_exif, position + 8, -1)

    _, found = tf.while_loop(header_goes_on, next_chunk, [tf.constant(8), tf.constant(-1)])
    return tf.where(found >= 0, _tiff_orientation(raw, tf.maximum(found, 0)), 1)


def upright(image, orientation):
    """Turn an image [H, W, 3] with EXIF `orientation` (int32 scalar, 1..8) upright; 5..8 swap height and width."""
    def any_of(*values):
        return tf.reduce_any(tf.equal(orientation, values))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(any_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(any_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
