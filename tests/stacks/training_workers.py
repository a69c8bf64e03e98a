"""Trains the project's networks, small, as TF_CONFIG says (several processes) or alone; the chief prints the histories as JSON.

    training_workers.py FOLDER      FOLDER: shared by the workers
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfwsss import stack
from tfwsss.affinity import affinity_labels, affinity_loss, pair_affinity
from tfwsss.config import Optimizer, Training
from tfwsss.models import build_affinitynet, build_classifier, build_segmenter, head_layers
from tfwsss.training.cluster import find_cluster
from tfwsss.training.devices import make_strategy
from tfwsss.training.loop import Task, fit, make_deterministic
from tfwsss.training.losses import multilabel_soft_margin, segmentation_cross_entropy
from tfwsss.weights import named_variables

BATCH, STEPS, SIZE, CLASSES = 4, 3, 72, 3
SETTINGS = Training(epochs=2, batch_size=BATCH, optimizer=Optimizer(learning_rate=0.002, weight_decay=0.01))


def affinity(features, batch, total):
    losses = affinity_loss(pair_affinity(features), affinity_labels(batch["cells"]), total)
    return {"loss": losses.total, "loss_bg": losses.bg, "loss_fg": losses.fg, "loss_neg": losses.neg}


NETWORKS = {
    "classifier": (
        lambda: build_classifier("vgg16", CLASSES, width=0.0625),
        lambda logits, batch, total: {"loss": multilabel_soft_margin(logits, batch["tags"], total)},
    ),
    "affinitynet": (lambda: build_affinitynet("vgg16", width=0.0625, features=56), affinity),
    "segmenter": (
        lambda: build_segmenter("resnet38", CLASSES, width=0.0625),
        lambda logits, batch, total: {"loss": segmentation_cross_entropy(logits, batch["label"], total)},
    ),
}


def batches(epoch: int, part: slice) -> tf.data.Dataset:
    rng = np.random.default_rng(epoch)
    count, cells = BATCH * STEPS, SIZE // 8
    # Labels differ much between photos, so that the workers' parts have very different counts.
    ignored = rng.random((count, 1, 1))
    values = {
        "image": rng.standard_normal((count, SIZE, SIZE, 3)).astype(np.float32),
        "tags": rng.integers(0, 2, (count, CLASSES)).astype(np.float32),
        "cells": np.where(rng.random((count, cells, cells)) < ignored, rng.integers(0, 3, (count, cells, cells)), 255).astype(np.uint8),
        "label": np.where(rng.random((count, SIZE, SIZE)) < ignored, rng.integers(0, 3, (count, SIZE, SIZE)), 255).astype(np.uint8),
    }
    kept = np.arange(count).reshape(STEPS, BATCH)[:, part]
    dataset = tf.data.Dataset.from_tensor_slices({name: value[kept.ravel()] for name, value in values.items()})
    return dataset.batch(kept.shape[1], drop_remainder=True)


def train(name: str, folder: Path, strategy, cluster) -> dict:
    build, loss = NETWORKS[name]
    make_deterministic(3)
    with strategy.scope():
        model = build()
    for layer in model.layers:  # its masks depend on how the batch is spread
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    with_tags = name == "classifier"
    task = Task(
        model,
        frozenset(head_layers(model)),
        batches,
        loss,
        STEPS,
        metrics={"f1": stack.f1_score(CLASSES)} if with_tags else {},
        compared=lambda logits, batch: (batch["tags"], tf.sigmoid(logits)),
    )
    history = fit(task, SETTINGS, momentum=0.9, folder=folder / name, strategy=strategy, cluster=cluster)
    sums = {name: float(np.abs(variable.numpy()).sum(dtype=np.float64)) for name, variable in named_variables(model).items()}
    return {"history": history, "weights": sums}


def main() -> None:
    cluster = find_cluster()
    strategy = make_strategy("single", cluster)
    folder = Path(sys.argv[1])
    found = {name: train(name, folder, strategy, cluster) for name in NETWORKS}
    print(json.dumps({"index": cluster.index, "replicas": strategy.num_replicas_in_sync, "found": found}))


if __name__ == "__main__":
    main()
