"""Reading numbers and chunks of a file's bytes inside a TensorFlow graph. Reads outside the file give 0, never an error."""

import tensorflow as tf


def byte_at(raw, position):
    """Bytes of `raw` (uint8 [N]) at `position` (any shape, int32) as int32; 0 outside the file."""
    inside = tf.logical_and(position >= 0, position < tf.size(raw))
    return tf.where(inside, tf.cast(tf.gather(raw, tf.where(inside, position, 0)), tf.int32), 0)


def number(raw, position, count: int, little):
    """Unsigned number of 2 or 4 bytes as int32; 4-byte numbers beyond the int32 range come out negative.

    Args:
        little: bool scalar tensor, the byte order.
    """
    parts = [byte_at(raw, position + index) for index in range(count)]
    big = sum(tf.bitwise.left_shift(part, 8 * (count - 1 - index)) for index, part in enumerate(parts))
    small = sum(tf.bitwise.left_shift(part, 8 * index) for index, part in enumerate(parts))
    return tf.where(little, small, big)


def equals(raw, position, text: bytes):
    """Whether `text` stands at the scalar `position`."""
    return tf.reduce_all(tf.equal(byte_at(raw, position + tf.range(len(text))), tf.constant(list(text), tf.int32)))


def find_png_chunk(raw, kind: bytes):
    """Where the content of the first PNG chunk `kind` before the pixels starts, int32 scalar; -1 when there is none."""
    big = tf.constant(False)

    def header_goes_on(position, found):
        return (found < 0) & (position >= 0) & (position + 12 <= tf.size(raw)) & tf.logical_not(equals(raw, position + 4, b"IDAT"))

    def next_chunk(position, found):
        length = number(raw, position, 4, big)
        # A length that leaves the file ends the search; adding it could wrap around.
        leaves = (length < 0) | (length > tf.size(raw))
        return tf.where(leaves, -1, position + 12 + tf.where(leaves, 0, length)), tf.where(equals(raw, position + 4, kind), position + 8, -1)

    _, found = tf.while_loop(header_goes_on, next_chunk, [tf.constant(8), tf.constant(-1)])
    return found
