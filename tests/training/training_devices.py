"""Trains the same tiny networks on one and on two virtual processors and prints the differences as JSON."""

import json
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfwsss import stack
from tfwsss.affinity import affinity_labels, affinity_loss, pair_affinity
from tfwsss.config import Optimizer, Training
from tfwsss.errors import StageError
from tfwsss.training.devices import make_strategy
from tfwsss.training.loop import Task, fit, make_deterministic
from tfwsss.training.losses import multilabel_soft_margin, ohem_cross_entropy, segmentation_cross_entropy
from tfwsss.weights import named_variables

STEPS, SIZE = 3, 12


def model_of(head: str, dropout: float = 0.0) -> keras.Model:
    make_deterministic(3)
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Conv2D(5, 3, padding="same", name="conv")(inputs)
    x = stack.SpatialDropout2D(dropout, name="channels")(x)
    x = keras.layers.Conv2D(3, 1, name="head")(x)
    if head == "tags":
        x = keras.layers.GlobalAveragePooling2D(name="logits")(x)
    return keras.Model(inputs, x, name="tiny")


def batches(size: int):
    def of_epoch(epoch: int, part: slice) -> tf.data.Dataset:
        rng = np.random.default_rng(epoch)
        count = STEPS * size
        # Labels differ much between photos, so that the parts of a batch have very different counts.
        label = np.where(rng.random((count, SIZE, SIZE)) < rng.random((count, 1, 1)), rng.integers(0, 3, (count, SIZE, SIZE)), 255)
        values = {
            "image": rng.standard_normal((count, SIZE, SIZE, 3)).astype(np.float32),
            "tags": rng.integers(0, 2, (count, 3)).astype(np.float32),
            "label": label.astype(np.uint8),
        }
        return tf.data.Dataset.from_tensor_slices(values).batch(size, drop_remainder=True)

    return of_epoch


def affinity(features, batch, total):
    losses = affinity_loss(pair_affinity(features), affinity_labels(batch["label"]), total)
    return {"loss": losses.total, "loss_bg": losses.bg, "loss_fg": losses.fg, "loss_neg": losses.neg}


LOSSES = {
    "tags": lambda logits, batch, total: {"loss": multilabel_soft_margin(logits, batch["tags"], total)},
    "affinity": affinity,
    "pixels": lambda logits, batch, total: {"loss": segmentation_cross_entropy(logits, batch["label"], total)},
    # Fewer pixels than min_kept: which are kept depends on the probability alone, not on the device's part.
    "hard pixels": lambda logits, batch, total: {
        "loss": ohem_cross_entropy(logits, batch["label"], total, probability=0.35, min_kept=1)
    },
}
SGD = Optimizer(learning_rate=0.02, weight_decay=0.01)


def train(folder, strategy, kind, settings, dropout=0.0, **callbacks):
    with strategy.scope():
        model = model_of(kind, dropout)
    task = Task(model, frozenset({"head"}), batches(settings.batch_size), LOSSES[kind], STEPS)
    start = {name: variable.numpy() for name, variable in named_variables(model).items()}
    history = fit(task, settings, momentum=0.9, folder=folder, strategy=strategy, **callbacks)
    return start, {name: variable.numpy() for name, variable in named_variables(model).items()}, history


def largest(first: dict, second: dict) -> float:
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def compare(folder: Path, kind: str, settings: Training) -> dict:
    one, two = make_strategy("single"), make_strategy("mirrored")
    start, expected, history = train(folder / "one", one, kind, settings)
    _, found, again = train(folder / "two", two, kind, settings)
    losses = [dict.fromkeys(entry, 0) | {k: abs(entry[k] - other[k]) for k in entry} for entry, other in zip(history, again, strict=True)]
    return {
        "replicas": two.num_replicas_in_sync,
        "moved": largest(start, expected),
        "weights": largest(expected, found),
        "losses": max(max(entry.values()) for entry in losses),
    }


class Killed(BaseException):
    pass


def kill(_):
    raise Killed


def restart(folder: Path) -> dict:
    strategy = make_strategy("mirrored")
    settings = Training(epochs=2, batch_size=4, optimizer=SGD)
    _, whole, _ = train(folder / "whole", strategy, "tags", settings, dropout=0.5)
    try:
        train(folder / "killed", strategy, "tags", settings, dropout=0.5, on_epoch=kill)
    except Killed:
        _, again, _ = train(folder / "killed", strategy, "tags", settings, dropout=0.5)
    return {"weights": largest(whole, again)}


def averaged(folder: Path) -> dict:
    """Of one device and of two, which see other parts of a batch."""
    settings = Training(epochs=2, batch_size=4, optimizer=SGD)
    weights = [train(folder / name, make_strategy(name), "pixels", settings, ema=0.7)[1] for name in ("single", "mirrored")]
    last = train(folder / "last", make_strategy("mirrored"), "pixels", settings)[1]
    return {"weights": largest(*weights), "moved": largest(weights[1], last)}


def xla(folder: Path) -> dict:
    try:
        train(folder, make_strategy("mirrored"), "tags", Training(epochs=1, batch_size=4, xla=True))
    except StageError as error:
        return {"error": str(error)}
    return {"error": ""}


def main() -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    # Without a GPU, MirroredStrategy takes the first processor only: name both.
    mirrored = tf.distribute.MirroredStrategy
    tf.distribute.MirroredStrategy = lambda: mirrored(["CPU:0", "CPU:1"])
    plain = Training(epochs=2, batch_size=4, optimizer=SGD)
    cases = {
        "classifier": ("tags", plain),
        "affinity": ("affinity", plain),
        "segmenter": ("hard pixels", plain),
        "odd batch": ("affinity", plain.model_copy(update={"batch_size": 5})),
        "adam, clipped": ("pixels", plain.model_copy(update={"optimizer": Optimizer(name="adam", learning_rate=0.001, clip_norm=0.02)})),
        "loss scale": ("tags", plain.model_copy(update={"precision": "mixed_float16"})),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = {name: compare(folder / name, *case) for name, case in cases.items()}
        found["restart with dropout"] = restart(folder / "restart")
        found["averaged"] = averaged(folder / "averaged")
        found["xla"] = xla(folder / "xla")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
