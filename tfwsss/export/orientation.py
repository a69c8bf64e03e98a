"""EXIF orientation inside a TensorFlow graph. TensorFlow's decoders ignore it; training turns photos upright.

A damaged block gives orientation 1 (as stored), never an error.
"""

import tensorflow as tf

from tfwsss.export.raw_bytes import byte_at, equals, find_png_chunk, number

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_MAX_ENTRIES = 512  # entries of the first directory that are looked at; cameras write about a dozen


def _tiff_orientation(raw, start):
    """Orientation 1..8 from the TIFF block at byte `start`; 1 when it is absent or damaged."""
    little = tf.equal(byte_at(raw, start), ord("I"))
    directory = number(raw, start + 4, 4, little)
    valid = tf.logical_and(directory >= 8, directory < tf.size(raw))
    directory = start + tf.where(valid, directory, 0)
    count = tf.minimum(number(raw, directory, 2, little), _MAX_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    wanted = tf.logical_and(tf.equal(number(raw, entries, 2, little), _ORIENTATION_TAG), tf.equal(number(raw, entries + 2, 2, little), _SHORT))
    value = tf.reduce_max(tf.concat([[0], tf.where(wanted, number(raw, entries + 8, 2, little), 0)], 0))
    return tf.where(valid & (value >= 1) & (value <= 8), value, 1)


def jpeg_orientation(data):
    """EXIF orientation (int32 scalar, 1..8) of a JPEG file given as a scalar string tensor."""
    raw = tf.io.decode_raw(data, tf.uint8)
    big = tf.constant(False)

    def header_goes_on(position, found):
        marker = byte_at(raw, position + 1)
        in_header = tf.equal(byte_at(raw, position), 0xFF) & tf.not_equal(marker, 0xDA) & tf.not_equal(marker, 0xD9)
        return (found < 0) & (position + 4 <= tf.size(raw)) & in_header

    def next_segment(position, found):
        marker = byte_at(raw, position + 1)
        is_exif = tf.equal(marker, 0xE1) & equals(raw, position + 4, b"Exif\x00\x00")
        # A marker may be preceded by any number of 0xFF fill bytes.
        step = tf.where(tf.equal(marker, 0xFF), 1, 2 + tf.maximum(number(raw, position + 2, 2, big), 2))
        return position + step, tf.where(is_exif, position + 10, -1)

    _, found = tf.while_loop(header_goes_on, next_segment, [tf.constant(2), tf.constant(-1)])
    return tf.where(found >= 0, _tiff_orientation(raw, tf.maximum(found, 0)), 1)


def png_orientation(data):
    """Orientation (int32 scalar, 1..8) from the eXIf chunk of a PNG file, where that precedes the pixels."""
    raw = tf.io.decode_raw(data, tf.uint8)
    found = find_png_chunk(raw, b"eXIf")
    return tf.where(found >= 0, _tiff_orientation(raw, tf.maximum(found, 0)), 1)


def upright(image, orientation):
    """Turn an image [H, W, 3] with EXIF `orientation` (int32 scalar, 1..8) upright; 5..8 swap height and width."""
    def any_of(*values):
        return tf.reduce_any(tf.equal(orientation, values))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(any_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(any_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
