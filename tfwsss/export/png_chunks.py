"""The chunks of a PNG file, walked inside a TensorFlow graph before libpng sees it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfwsss.export.raw_bytes import equals

MOST_CHUNKS = 1 << 16  # an encoder writes one for each 8 kB of pixels, or fewer

_XMP = b"XML:com.adobe.xmp\0\0"  # keyword, and 0 for "not compressed"
_PLACES = [1 << 24, 1 << 16, 1 << 8, 1]


class PngChunks(NamedTuple):
    """Where the content of a chunk starts, int32 scalars; -1: there is none before the pixels.

    Attributes:
        exif, transparency: eXIf and tRNS.
        xmp: iTXt with uncompressed XMP; of `xmp_length` bytes.
    """

    exif: tf.Tensor
    transparency: tf.Tensor
    xmp: tf.Tensor
    xmp_length: tf.Tensor


def _name(kind: bytes) -> int:
    return int.from_bytes(kind, "big")


def png_chunks(raw) -> PngChunks:
    """Walk the chunks of a PNG file, uint8 [N], up to IEND or the end of the file.

    libpng reserves the memory that a chunk announces before it reads it, up to 2 GB. Of several chunks of a kind the last
    counts, as in Pillow.

    Raises (in the graph):
        InvalidArgumentError: a chunk is longer than the rest of the file, or there are more than `MOST_CHUNKS`.
    """
    size = tf.size(raw, tf.int64)
    places = tf.constant(_PLACES, tf.int64)

    nothing = tf.constant(-1, tf.int64)

    def goes_on(position, count, ended, pixels, chunks):
        return tf.logical_not(ended) & (position + 8 <= size) & (count <= MOST_CHUNKS)

    def next_chunk(position, count, ended, pixels, chunks):
        head = tf.reshape(tf.cast(tf.ensure_shape(raw[position : position + 8], [8]), tf.int64), [2, 4])
        length, kind = tf.unstack(tf.reduce_sum(head * places, 1))
        pixels = pixels | tf.equal(kind, _name(b"IDAT"))
        content = position + 8

        def last(is_it, value, before):
            return tf.where(is_it & tf.logical_not(pixels), value, before)

        is_xmp = tf.equal(kind, _name(b"iTXt")) & equals(raw, tf.cast(content, tf.int32), _XMP)
        chunks = PngChunks(
            last(tf.equal(kind, _name(b"eXIf")), content, chunks.exif),
            last(tf.equal(kind, _name(b"tRNS")), content, chunks.transparency),
            last(is_xmp, content, chunks.xmp),
            last(is_xmp, length, chunks.xmp_length),
        )
        return [content + length + 4, count + 1, tf.equal(kind, _name(b"IEND")), pixels, chunks]

    start = [tf.constant(8, tf.int64), tf.constant(0), tf.constant(False), tf.constant(False), PngChunks(nothing, nothing, nothing, nothing)]
    position, count, _, _, chunks = tf.while_loop(goes_on, next_chunk, start)
    fits = tf.debugging.Assert((position <= size) & (count <= MOST_CHUNKS), ["image_bytes: a PNG that is cut off or has too many chunks"])
    with tf.control_dependencies([fits]):
        return PngChunks(*(tf.cast(value, tf.int32) for value in chunks))
