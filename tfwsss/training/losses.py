"""Losses of the classifier and of the segmenter. Each takes logits of any float dtype and computes in float32.

Each is a mean over the batch. Where a batch is spread over several devices, `total` adds a count up over all of them,
and the device's result is its share: the shares' sum is the loss of the whole batch.
"""

import tensorflow as tf

from tfwsss.storage.artifacts import IGNORE


def one_device(count: tf.Tensor) -> tf.Tensor:
    """`total` where the whole batch is on one device."""
    return count


def multilabel_soft_margin(logits, tags, total=one_device, known=None) -> tf.Tensor:
    """Mean binary cross entropy over batch and classes, over the known tags.

    Args:
        logits: [B, C].
        tags: [B, C] multi-hot.
        total: sums a count over all devices.
        known: [B, C] of 0 and 1: where it is 0, nobody knows whether the class is there, and there is no loss. None: all are known.

    Returns:
        Scalar float32; 0 when nothing is known.
    """
    logits = tf.cast(logits, tf.float32)
    tags = tf.cast(tags, tf.float32)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=tags, logits=logits)
    if known is None:
        return tf.reduce_sum(loss) / total(tf.cast(tf.size(loss), tf.float32))
    known = tf.cast(known, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * known), total(tf.reduce_sum(known)))


def _pixel_cross_entropy(logits, label):
    """(cross entropy [B*H*W], 0 at ignored pixels; label int32 [B*H*W]; bool [B*H*W] of the labelled pixels)."""
    logits = tf.cast(logits, tf.float32)
    label = tf.reshape(tf.cast(label, tf.int32), [-1])
    labelled = label != IGNORE
    flat = tf.reshape(logits, [-1, logits.shape[-1]])
    # A product instead of sparse_softmax_cross_entropy_with_logits, whose repeatable form takes a sixth of a training step.
    # The row of an ignored pixel is zero: 255 is no class.
    rows = tf.one_hot(label, flat.shape[-1])
    return -tf.reduce_sum(rows * tf.nn.log_softmax(flat), axis=-1), label, labelled


def _counting(labelled, weight):
    """How much each pixel counts, float32 [B*H*W]: 1 where it is labelled, times the weight of its photo."""
    counting = tf.cast(labelled, tf.float32)
    if weight is None:
        return counting
    pixels = tf.size(counting) // tf.size(weight)
    return counting * tf.repeat(tf.cast(weight, tf.float32), pixels)


def segmentation_cross_entropy(logits, label, total=one_device, weight=None) -> tf.Tensor:
    """Mean cross entropy over the labelled pixels of the batch.

    Args:
        logits: [B, H, W, C+1], background first.
        label: [B, H, W] integers, 255 is ignored.
        total: sums a count over all devices.
        weight: [B], how much the pixels of each photo count; None: alike.

    Returns:
        Scalar float32; 0 when every pixel is ignored.
    """
    loss, _, labelled = _pixel_cross_entropy(logits, label)
    counting = _counting(labelled, weight)
    return tf.math.divide_no_nan(tf.reduce_sum(loss if weight is None else loss * counting), total(tf.reduce_sum(counting)))


def balanced_cross_entropy(logits, label, total=one_device, weight=None) -> tf.Tensor:
    """Cross entropy with background and foreground averaged apart: half the mean over each (Huang et al., CVPR 2018, eq. 2).

    Where most pixels are background, or pseudo labels call objects background, the plain mean teaches to predict it.

    Args:
        logits: [B, H, W, C+1], background first.
        label: [B, H, W] integers, 255 is ignored.
        total, weight: see `segmentation_cross_entropy`.

    Returns:
        Scalar float32; a half without pixels is 0.
    """
    loss, label, labelled = _pixel_cross_entropy(logits, label)
    halves = []
    for part in (label == 0, labelled & (label != 0)):
        part = _counting(part, weight)
        halves.append(tf.math.divide_no_nan(tf.reduce_sum(loss * part), total(tf.reduce_sum(part))))
    return 0.5 * (halves[0] + halves[1])


def ohem_cross_entropy(logits, label, total=one_device, weight=None, *, probability: float = 0.6, min_kept: int = 256) -> tf.Tensor:
    """Cross entropy over the hard pixels only (online bootstrapping of the ResNet38 segmenter, Wu et al., 2016).

    A labelled pixel is kept when the predicted probability of its label is at most `probability`, or is among the
    `min_kept` smallest of the batch (of each device's part of it).

    Args:
        logits: [B, H, W, C+1].
        label: [B, H, W] integers, 255 is ignored.
        total, weight: see `segmentation_cross_entropy`; weights do not change which pixels are hard.

    Returns:
        Scalar float32: mean over the kept pixels, 0 when every pixel is ignored.
    """
    loss, _, labelled = _pixel_cross_entropy(logits, label)
    # p <= q is loss >= -log(q); the k-th smallest probability is the k-th largest loss.
    candidates = tf.where(labelled, loss, -1.0)
    kept = tf.minimum(min_kept, tf.size(candidates))
    hardest = tf.math.top_k(candidates, k=kept, sorted=True).values[-1]
    limit = tf.minimum(-tf.math.log(tf.constant(probability, tf.float32)), hardest)
    keep = _counting(labelled & (loss >= limit), weight)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * keep), total(tf.reduce_sum(keep)))


PIXEL_LOSSES = {  # by the name in the configuration
    "cross_entropy": segmentation_cross_entropy,
    "ohem": ohem_cross_entropy,
    "balanced": balanced_cross_entropy,
}
