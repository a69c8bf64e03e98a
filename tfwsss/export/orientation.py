"""Orientation by EXIF, or else by XMP, inside a TensorFlow graph. TensorFlow's decoders ignore it; training turns photos upright.

A damaged block gives orientation 1 (as stored), as in Pillow, not an error.
"""

import tensorflow as tf

from tfwsss.export.raw_bytes import byte_at, equals, number

_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_MOST_SEGMENTS = 4096  # before the pixels of a JPEG, bytes that fill up included; cameras write a dozen
_MAX_ENTRIES = 512  # entries of the first directory that are looked at; cameras write about a dozen


def _tiff_orientation(raw, start):
    """Orientation 1..8 from the TIFF block at byte `start`, 1 when it is damaged; 0 when the block does not name it."""
    little = tf.equal(byte_at(raw, start), ord("I"))
    directory = number(raw, start + 4, 4, little)
    valid = tf.logical_and(directory >= 8, directory < tf.size(raw))
    directory = start + tf.where(valid, directory, 0)
    count = tf.minimum(number(raw, directory, 2, little), _MAX_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    kinds, counts = number(raw, entries + 2, 2, little), number(raw, entries + 4, 4, little)
    # More values than fit into the entry stand elsewhere.
    short = tf.equal(kinds, _SHORT) & ((counts == 1) | (counts == 2))
    long = tf.equal(kinds, _LONG) & (counts == 1)
    values = tf.where(short, number(raw, entries + 8, 2, little), tf.where(long, number(raw, entries + 8, 4, little), 0))
    wanted = valid & tf.equal(number(raw, entries, 2, little), _ORIENTATION_TAG)
    value = tf.reduce_max(tf.concat([[0], tf.where(wanted, values, 0)], 0))
    return tf.where(tf.reduce_any(wanted), tf.where((value >= 1) & (value <= 8), value, 1), 0)


def _xmp_orientation(data, start, length):
    """Orientation 1..8 that an XMP packet, `length` bytes at `start`, states first; 1 when it states none."""
    pieces = tf.strings.split(tf.strings.substr(data, tf.maximum(start, 0), tf.maximum(length, 0)), "tiff:Orientation")[1:]
    pieces = tf.strings.join([pieces, "   "])  # so that three characters are there
    attribute = tf.strings.regex_full_match(tf.strings.substr(pieces, 0, 3), '="[0-9]')
    element = tf.strings.regex_full_match(tf.strings.substr(pieces, 0, 2), ">[0-9]")
    digits = tf.where(attribute, tf.strings.substr(pieces, 2, 1), tf.strings.substr(pieces, 1, 1))
    values = tf.strings.to_number(tf.boolean_mask(digits, attribute | element), tf.int32)
    value = tf.concat([values, [1]], 0)[0]
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _orientation(data, raw, exif, xmp, xmp_length):
    stated = tf.where(exif >= 0, _tiff_orientation(raw, tf.maximum(exif, 0)), 0)
    return tf.cond(stated > 0, lambda: stated, lambda: _xmp_orientation(data, xmp, xmp_length))


def jpeg_orientation(data, raw):
    """Orientation (int32 scalar, 1..8) of a JPEG file, given as scalar string and as uint8 [N].

    Raises (in the graph):
        InvalidArgumentError: there are thousands of segments before the pixels.
    """
    big = tf.constant(False)

    def header_goes_on(position, exif, xmp, xmp_length):
        marker = byte_at(raw, position + 1)
        in_header = tf.equal(byte_at(raw, position), 0xFF) & tf.not_equal(marker, 0xDA) & tf.not_equal(marker, 0xD9)
        return (position + 4 <= tf.size(raw)) & in_header

    def next_segment(position, exif, xmp, xmp_length):
        marker, length = byte_at(raw, position + 1), tf.maximum(number(raw, position + 2, 2, big), 2)
        is_application = tf.equal(marker, 0xE1)
        is_exif = is_application & equals(raw, position + 4, b"Exif\x00\x00") & (exif < 0)
        is_xmp = is_application & equals(raw, position + 4, b"http://ns.adobe.com/xap/1.0/\x00") & (position + 2 + length <= tf.size(raw))
        exif, xmp, xmp_length = tf.where(is_exif, position + 10, exif), tf.where(is_xmp, position + 4, xmp), tf.where(is_xmp, length - 2, xmp_length)
        # A marker may be preceded by any number of 0xFF fill bytes.
        return [position + tf.where(tf.equal(marker, 0xFF), 1, 2 + length), exif, xmp, xmp_length]

    nothing = tf.constant(-1)
    state = tf.while_loop(header_goes_on, next_segment, [tf.constant(2), nothing, nothing, nothing], maximum_iterations=_MOST_SEGMENTS)
    few = tf.debugging.Assert(tf.logical_not(header_goes_on(*state)), [f"image_bytes: a JPEG of more than {_MOST_SEGMENTS} segments"])
    with tf.control_dependencies([few]):
        return _orientation(data, raw, *state[1:])


def png_orientation(data, raw, chunks):
    """Orientation (int32 scalar, 1..8) of a PNG file, given as scalar string and as uint8 [N], with its `PngChunks`."""
    return _orientation(data, raw, chunks.exif, chunks.xmp, chunks.xmp_length)


def upright(image, orientation):
    """Turn an image [H, W, 3] with EXIF `orientation` (int32 scalar, 1..8) upright; 5..8 swap height and width."""
    def any_of(*values):
        return tf.reduce_any(tf.equal(orientation, values))

    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(any_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(any_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)
