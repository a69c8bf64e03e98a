"""Large photos in TensorFlow: made smaller as training sees them, their masks enlarged again (`data.long_side`)."""

import tensorflow as tf


def reduced_photos(images, long_side: int | None):
    """uint8 [B, H, W, 3] -> uint8 [B, h, w, 3] whose long side is at most `long_side` pixels (None: as they are).

    As `tfwsss.data.image.reduced`, in whose place it stands in a graph: Pillow rounds between the two directions, so that single
    values differ by one.
    """
    if long_side is None:
        return images
    size = tf.cast(tf.shape(images)[1:3], tf.float64)
    longest = tf.reduce_max(size)

    def smaller():
        wanted = tf.maximum(tf.cast(tf.round(size * float(long_side) / longest), tf.int32), 1)
        found = tf.image.resize(images, wanted, antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(found), 0.0, 255.0), tf.uint8)

    return tf.cond(longest > long_side, smaller, lambda: images)


def enlarged_masks(masks, images):
    """uint8 [B, h, w], found in `reduced_photos` of `images`, as large as these are: each pixel is the nearest one's."""
    # In whole numbers: a pixel's centre may lie on the border of two, where `tf.image.resize` decides by chance.
    rows, columns = ((2 * tf.range(tf.shape(images)[axis]) + 1) * tf.shape(masks)[axis] // (2 * tf.shape(images)[axis]) for axis in (1, 2))
    return tf.gather(tf.gather(masks, rows, axis=1), columns, axis=2)


def enlarged_scores(scores, images):
    """float32 [B, h, w, L], found in `reduced_photos` of `images`, as large as these are, bilinearly."""
    size = tf.shape(images)[1:3]
    return tf.cond(tf.reduce_all(tf.shape(scores)[1:3] == size), lambda: scores, lambda: tf.image.resize(scores, size))
