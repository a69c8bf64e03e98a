"""The deployed computation: from uint8 photos to class scores and masks. Every artefact is made from this one definition."""

import numpy as np
import tensorflow as tf

from tfwsss.errors import ExportError
from tfwsss.models.conversion import is_converting
from tfwsss.normalization import Normalization

# 255 marks "ignore" in label maps, so it can never be a label of a mask.
MAX_LABELS = 255


def normalized(images, normalization: Normalization):
    """Float32 photos [B, H, W, 3] of 0..255 as a network takes them; inside `conversion` in a form that converts well."""
    if not is_converting():
        return normalization(images)
    # A 1x1 convolution, channel order included: elementwise operations on three interleaved channels are slow.
    bias = normalization(np.zeros(3, np.float32))
    kernel = normalization(np.eye(3)) - bias
    return tf.nn.bias_add(tf.nn.conv2d(images, kernel.astype(np.float32)[np.newaxis, np.newaxis], strides=1, padding="VALID"), bias)


class Inference:
    """Segmentation of a batch of photos of one size, as TensorFlow operations.

    photos uint8 -> normalisation -> segmenter -> bilinear resize of the logits to the photo's size (half-pixel
    centres, no antialiasing; only when the segmenter does not already give that size) -> argmax or softmax.

    With test-time `scales` or `flip` the softmax scores of all variants are averaged and the mask is the argmax of the
    average. Photos are scaled bilinearly before normalisation, each side to ``max(1, round(side * scale))``.

    Args:
        model: keras.Model, normalised float32 [B, H, W, 3] -> logits [B, h, w, L] for any B, H, W.
        normalization: what the segmenter was trained with.
        scales: test-time scales; ``(1.0,)`` is the plain network.
        flip: also run the mirrored photo at every scale.

    Raises:
        ExportError: the model's output is not [B, h, w, L] with 2 <= L <= 255, or a scale is not positive.
    """

    def __init__(self, model, normalization: Normalization, *, scales=(1.0,), flip: bool = False):
        if not scales or any(scale <= 0 for scale in scales):
            raise ExportError(f"scales: found {tuple(scales)}, expected one or more positive numbers")
        self.model = model
        self.normalization = normalization
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = bool(flip)
        # Running the model tells more reliably than its static shape what it does with an odd, non-square size.
        height, width = 33, 47
        shape = tuple(model(tf.zeros([1, height, width, 3]), training=False).shape)
        if len(shape) != 4 or not 2 <= shape[3] <= MAX_LABELS:
            raise ExportError(f"model output: found shape {shape} for an image of {height}x{width}, expected [B, h, w, L] with L in 2..{MAX_LABELS}")
        self.num_labels = int(shape[3])
        self._resizes = shape[1:3] != (height, width)
        # One trace, however many signatures and test-time variants use the network.
        photos = tf.TensorSpec([None, None, None, 3], tf.float32)
        self._network = tf.function(lambda images: tf.cast(model(images, training=False), tf.float32), input_signature=[photos], autograph=False)

    @property
    def is_plain(self) -> bool:
        """True when no test-time variant is used."""
        return self.scales == (1.0,) and not self.flip

    def _logits(self, images, size):
        logits = self._network(normalized(images, self.normalization))
        return tf.image.resize(logits, size) if self._resizes else logits

    def _scaled_scores(self, images, scale, size):
        if scale != 1.0:
            scaled = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32), 1)
            scores = tf.nn.softmax(self._logits(tf.image.resize(images, scaled), scaled))
            return tf.image.resize(scores, size)
        return tf.nn.softmax(self._logits(images, size))

    def scores(self, images):
        """uint8 [B, H, W, 3] RGB -> float32 [B, H, W, L], non-negative, summing to 1 over the labels; label 0 is background."""
        images = tf.cast(images, tf.float32)
        size = tf.shape(images)[1:3]
        variants = [self._scaled_scores(images, scale, size) for scale in self.scales]
        if self.flip:
            mirrored = tf.reverse(images, [2])
            variants += [tf.reverse(self._scaled_scores(mirrored, scale, size), [2]) for scale in self.scales]
        return variants[0] if len(variants) == 1 else tf.add_n(variants) / len(variants)

    def mask(self, images):
        """uint8 [B, H, W, 3] RGB -> uint8 [B, H, W]: 0 background, k+1 class k; of equal scores the lower label."""
        if self.is_plain:  # softmax does not move the maximum
            images = tf.cast(images, tf.float32)
            scores = self._logits(images, tf.shape(images)[1:3])
        else:
            scores = self.scores(images)
        return tf.cast(tf.argmax(scores, axis=-1, output_type=tf.int32), tf.uint8)
