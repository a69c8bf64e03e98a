"""Training batches: the tf.data pipelines of the classifier, AffinityNet and the segmenter.

Every pipeline covers one epoch: floor(N / batch) batches of a fresh permutation (one batch, with photos repeated, when
N < batch). The sample at a position depends on (seed, epoch, position) only, never on threads, earlier epochs, the
process or the platform, so a run that goes on after an interruption sees what it would have seen. Several processes
that train together each take a `part` of every batch and read only that.

A photo that cannot be read during training raises a TensorFlow error that carries the text of the `ImageError`.
"""

import hashlib
import math
import random
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from tfwsss import config, stack
from tfwsss.data import augment, label_grid
from tfwsss.data.changes import Changes, hole_side
from tfwsss.data.colour_jitter import normalize_into
from tfwsss.data.dataset import Dataset
from tfwsss.data.label_sources import LabelFolder, LabelSource, MixedLabels
from tfwsss.errors import DataError
from tfwsss.normalization import Normalization
from tfwsss.processes import usable_cores
from tfwsss.storage import artifacts

PREFETCHED_BATCHES = 2
ALIGNMENT = 64  # bytes; where TensorFlow wants a tensor to begin
SMALL = 1 << 16  # bytes that are copied in no time
WHOLE = slice(None)  # positions in a batch


def classifier_batches(
    dataset: Dataset,
    settings: config.Classifier,
    normalization: Normalization,
    *,
    filter: Image.Resampling,
    seed: int,
    epoch: int,
    part: slice = WHOLE,
) -> tf.data.Dataset:
    """Batches of photos with their tags.

    Random long side (or scale, `settings.scale_range`), flip, colour jitter, normalisation, random crop, in the order of the PSA reference code. As the
    crop comes after normalisation, what lies outside a small photo has the mean colour (value 0). Then what
    `settings.augmentation` asks for, as in the other two pipelines: sharpness of the visible part, rotation and shear of
    the crop with its labels (outside: mean colour, label 255), a square of mean colour. Photos that have no up
    (`dataset.orientation`) are turned by a random number of quarter turns, in all three.

    Returns:
        {"image": float32 [B, crop, crop, 3] normalised, "tags": float32 [B, C] multi-hot, "known": float32 [B, C], 0 where nobody
        knows the tag, else 1}.

    Raises:
        DataError: the data set has no photos.
    """
    tags, known = dataset.tag_matrix(), dataset.known_matrix()

    def draw(index: int, rng: random.Random):
        picture = dataset.picture(dataset.samples[index])
        if settings.scale_range is None:
            image = augment.resize_long(picture, settings.resize_long, rng, filter)
        else:
            image = augment.random_scale(picture, settings.scale_range, rng, filter)
        if augment.draw_flip(rng):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(image)
        if settings.color_jitter:
            pixels = augment.color_jitter(pixels, rng)
        window = augment.CropWindow.random(pixels.shape[0], pixels.shape[1], settings.crop, rng)
        changes = Changes.draw(settings.augmentation, settings.crop, rng)
        placed = _normalized_on_canvas(changes.sharpen(window.cut(pixels)), window, normalization)
        turns = augment.draw_turns(dataset.orientation, rng)
        return np.rot90(changes.warp(placed, 0.0), turns), tags[index], known[index], changes.hole

    outputs = {
        "image": tf.TensorSpec((settings.crop, settings.crop, 3), tf.float32),
        "tags": tf.TensorSpec((dataset.num_classes,), tf.float32),
        "known": tf.TensorSpec((dataset.num_classes,), tf.float32),
    }
    return _batches(len(dataset.samples), settings, draw, outputs, seed, epoch, part)


def affinity_batches(
    dataset: Dataset,
    labels: LabelSource,
    settings: config.AffinityNet,
    normalization: Normalization,
    *,
    canvas: Literal["black", "mean"],
    seed: int,
    epoch: int,
    part: slice = WHOLE,
) -> tf.data.Dataset:
    """Batches of photos with their confident labels on the stride-8 grid.

    Colour jitter, random crop, normalisation, flip; the photo keeps its scale, because affinities depend on it. Each
    photo occurs `settings.crops_per_image` times in an epoch.

    Args:
        labels: where the label maps come from; for label_source "scores" those that a stage has made are <id>.npz.
        canvas: colour of what lies outside a small photo: "black" (the reference) or the "mean" colour.

    Returns:
        {"image": float32 [B, crop, crop, 3] normalised, "label": uint8 [B, crop/8, crop/8]: 0, k+1, 255 ignore,
        "weight": float32 [B], `settings.strong_weight` for photos whose label is a mask, else 1}.

    Raises:
        DataError: no photos, or a photo has no label file.
    """
    size, cell = settings.crop, label_grid.CELL  # config.AffinityNet keeps the crop a multiple of the cell
    scored = labels if isinstance(labels, LabelFolder | MixedLabels) and settings.label_source == "scores" else None
    labels.require(dataset, ".png" if scored is None else ".npz")
    weights = _weights(dataset, labels, settings.strong_weight)

    def grid_label(sample, shape, window: augment.CropWindow, changes: Changes, flip: bool) -> np.ndarray:
        if scored is None or labels.strong(sample):
            label = window.crop(labels(sample, shape), artifacts.IGNORE)
            label = changes.warp_label(label, artifacts.IGNORE)
            return label_grid.majority_label(np.fliplr(label) if flip else label)
        classes, low, high = scored.scores(sample, shape)
        scores = changes.warp(window.crop(np.concatenate([low, high]).transpose(1, 2, 0), 0.0), 0.0)
        means = label_grid.block_mean(np.fliplr(scores) if flip else scores)
        return label_grid.label_of_scores(means[..., : len(low)], means[..., len(low) :], classes)

    def draw(index: int, rng: random.Random):
        sample = dataset.samples[index]
        pixels = dataset.read(sample)
        if settings.color_jitter:
            pixels = augment.color_jitter(pixels, rng)
        window = augment.CropWindow.random(pixels.shape[0], pixels.shape[1], size, rng)
        flip = augment.draw_flip(rng)
        changes = Changes.draw(settings.augmentation, size, rng)
        visible = changes.sharpen(window.cut(pixels))
        if canvas == "black":
            image = _canvas(size, flip)
            normalize_into(image, window.place(visible, 0), normalization)
        else:
            image = _normalized_on_canvas(visible, window, normalization, flip)
        image = changes.warp(image, 0.0)
        label = grid_label(sample, pixels.shape[:2], window, changes, flip)
        turns = augment.draw_turns(dataset.orientation, rng)
        return np.rot90(np.fliplr(image) if flip else image, turns), np.rot90(label, turns), weights[index], changes.hole

    outputs = {
        "image": tf.TensorSpec((size, size, 3), tf.float32),
        "label": tf.TensorSpec((size // cell, size // cell), tf.uint8),
        "weight": tf.TensorSpec((), tf.float32),
    }
    count = len(dataset.samples) * settings.crops_per_image
    return _batches(count, settings, draw, outputs, seed, epoch, part, copies=settings.crops_per_image)


def segmenter_batches(
    dataset: Dataset,
    labels: LabelSource,
    settings: config.Segmenter,
    normalization: Normalization,
    *,
    filter: Image.Resampling,
    seed: int,
    epoch: int,
    part: slice = WHOLE,
) -> tf.data.Dataset:
    """Batches of photos with their label maps.

    Random scale relative to the photo's own size, random crop, flip, colour jitter of the visible part,
    normalisation. Outside a small photo the image has the mean colour and the label 255.

    Args:
        labels: where the label maps come from.

    Returns:
        {"image": float32 [B, crop, crop, 3] normalised, "label": uint8 [B, crop, crop]: 0, k+1, 255 ignore,
        "weight": float32 [B], `settings.strong_weight` for photos whose label is a mask, else 1}.

    Raises:
        DataError: no photos, or a photo has no label file.
    """
    labels.require(dataset)
    weights = _weights(dataset, labels, settings.strong_weight)

    def draw(index: int, rng: random.Random):
        sample = dataset.samples[index]
        picture = dataset.picture(sample)
        label = labels(sample, (picture.height, picture.width))
        scaled = augment.random_scale(picture, settings.scale_range, rng, filter)
        label = augment.resize_label(label, scaled.size)
        window = augment.CropWindow.random(label.shape[0], label.shape[1], settings.crop, rng)
        flip = augment.draw_flip(rng)
        visible = window.cut_picture(scaled)
        if settings.color_jitter:
            visible = augment.color_jitter(visible, rng)
        changes = Changes.draw(settings.augmentation, settings.crop, rng)
        image = changes.warp(_normalized_on_canvas(changes.sharpen(visible), window, normalization, flip), 0.0)
        label = changes.warp_label(window.crop(label, artifacts.IGNORE), artifacts.IGNORE)
        if flip:
            image, label = np.fliplr(image), np.fliplr(label)
        turns = augment.draw_turns(dataset.orientation, rng)
        return np.rot90(image, turns), np.rot90(label, turns), weights[index], changes.hole

    outputs = {
        "image": tf.TensorSpec((settings.crop, settings.crop, 3), tf.float32),
        "label": tf.TensorSpec((settings.crop, settings.crop), tf.uint8),
        "weight": tf.TensorSpec((), tf.float32),
    }
    return _batches(len(dataset.samples), settings, draw, outputs, seed, epoch, part)


def _weights(dataset: Dataset, labels: LabelSource, strong: float) -> np.ndarray:
    return np.array([strong if labels.strong(sample) else 1.0 for sample in dataset.samples], np.float32)


# -------------------------------------------------------------------------------------------------- batching


def _digest(*key: int) -> int:
    # Python's hash() is salted per process for strings; a cryptographic digest is the same everywhere.
    return int.from_bytes(hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest(), "big")


def _permutation(count: int, seed: int, epoch: int, turn: int) -> np.ndarray:
    # Sorting raw generator output: numpy guarantees this stream across versions, which it does not for shuffle().
    keys = np.random.PCG64(_digest(seed, epoch, -1 - turn)).random_raw(count)
    return np.argsort(keys, kind="stable")


def _aligned_empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array that TensorFlow takes as it is: what begins elsewhere it copies, under Python's global lock."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _aligned(array: np.ndarray) -> np.ndarray:
    """The array, copied unless it lies as TensorFlow takes it, or is too small for that to matter."""
    if array.flags.c_contiguous and (array.nbytes < SMALL or array.ctypes.data % ALIGNMENT == 0):
        return array
    copy = _aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def _canvas(size: int, flip: bool) -> np.ndarray:
    """An empty [size, size, 3] float32; mirrored in memory where it is going to be flipped, which then copies nothing."""
    canvas = _aligned_empty((size, size, 3), np.float32)
    return np.fliplr(canvas) if flip else canvas


def _normalized_on_canvas(visible: np.ndarray, window: augment.CropWindow, normalization: Normalization, flip: bool = False) -> np.ndarray:
    """``window.place(normalization(visible), 0.0)`` of uint8 pixels; `flip`: it is going to be flipped."""
    canvas = _canvas(window.size, flip)
    if visible.shape[:2] != canvas.shape[:2]:
        canvas[...] = 0.0
    normalize_into(window.seat(canvas), visible, normalization)
    return canvas


def _batches(
    count: int,
    settings: config.Training,
    draw: Callable[[int, random.Random], tuple[np.ndarray, ...]],
    outputs: dict[str, tf.TensorSpec],
    seed: int,
    epoch: int,
    part: slice,
    copies: int = 1,
) -> tf.data.Dataset:
    if count == 0:
        raise DataError("no photos to train on")
    steps = max(count // settings.batch_size, 1)
    length = steps * settings.batch_size
    turns = -(-length // count)  # more than one permutation only when the photos do not fill one batch
    order = np.concatenate([_permutation(count, seed, epoch, turn) for turn in range(turns)])[:length] // copies
    positions = np.arange(length).reshape(steps, settings.batch_size)[:, part]
    # `draw` gives the place of the hole behind the outputs.
    specs = {**outputs, "hole": tf.TensorSpec((2,), tf.int32)}

    def produce(position, index):
        arrays = draw(int(index), random.Random(_digest(seed, epoch, int(position))))
        return [_aligned(np.asarray(array)) for array in arrays]

    def load(position, index):
        # Declared stateless, else tf.data would run it in sequence under deterministic ops; it is, by construction.
        tensors = tf.numpy_function(produce, [position, index], [spec.dtype for spec in specs.values()], stateful=False)
        return {name: tf.ensure_shape(tensor, spec.shape) for (name, spec), tensor in zip(specs.items(), tensors, strict=True)}

    side = hole_side(settings.augmentation, settings.crop)

    def cut_out(batch):
        centers = batch.pop("hole")
        return {**batch, "image": stack.cutout(batch["image"], centers, side)} if side else batch

    samples = tf.data.Dataset.from_tensor_slices((positions.ravel(), order[positions.ravel()]))
    samples = samples.map(load, num_parallel_calls=usable_cores(), deterministic=True)
    batches = samples.batch(positions.shape[1], drop_remainder=True).map(cut_out).prefetch(PREFETCHED_BATCHES)
    # With autotuning, an iterator's end waits for the tuner's thread to wake up: seconds at the end of many an epoch.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
