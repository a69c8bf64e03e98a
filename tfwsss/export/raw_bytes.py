"""Reading numbers of a file's bytes inside a TensorFlow graph. Reads outside the file give 0, never an error."""

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
