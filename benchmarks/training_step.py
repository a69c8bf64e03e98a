"""Time of one training step of a configuration's networks, as shipped and with single decisions taken back.

    python benchmarks/training_step.py demo-scenes        # about 5 minutes

Each variant has a process of its own and its turn in every round; factors are medians of the rounds' ratios, so other
load meets all alike. Photos are random numbers: reading them is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VARIANTS = ("as shipped", "with the graph optimiser", "with Keras' batch normalisation", "without oneDNN")
NETWORKS = ("classifier", "affinitynet", "segmenter")


def make_step(config, network: str, variant: str):
    """A function without arguments that does one training step."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfwsss import stack

    if variant == "with Keras' batch normalisation":
        stack.BatchNormalization = keras.layers.BatchNormalization
    from tfwsss.affinity import affinity_labels, affinity_loss, pair_affinity
    from tfwsss.models import build_classifier, build_segmenter, head_layers
    from tfwsss.training import loop
    from tfwsss.training.losses import PIXEL_LOSSES, multilabel_soft_margin
    from tfwsss.training.optimizer import MOMENTUM, GroupedOptimizer, trainable_variables
    from tfwsss_pipelines.stages.affinitynet import affinity_model
    from tfwsss_pipelines.stages.train import model_arguments

    settings, classes, rng = getattr(config, network), len(config.data.classes or range(5)), np.random.default_rng(0)
    batch, crop = settings.batch_size, settings.crop
    images = tf.constant(rng.normal(size=(batch, crop, crop, 3)), tf.float32)
    loop.make_deterministic(0)
    keras.mixed_precision.set_global_policy(settings.precision)
    arguments = model_arguments(settings.model, config.switches.dropout)
    if network == "classifier":
        model, target = build_classifier(settings.model.backbone, classes, **arguments), rng.integers(0, 2, (batch, classes))
        loss: Callable = multilabel_soft_margin
    elif network == "segmenter":
        model = build_segmenter(settings.model.backbone, classes, head=settings.head, **arguments)
        target, loss = rng.integers(0, classes + 1, (batch, crop, crop)), PIXEL_LOSSES[settings.loss]
    else:
        model, target = affinity_model(config), rng.integers(0, 3, (batch, crop // 8, crop // 8))

        def affinities(features, label, total):
            return affinity_loss(pair_affinity(features, settings.radius), affinity_labels(label, settings.radius), total).total

        loss = affinities

    data = {"image": images, "target": tf.constant(target, tf.int32)}
    task = loop.Task(model, frozenset(head_layers(model)), lambda epoch, part: None, lambda o, b, total: {"loss": loss(o, b["target"], total)}, 1)
    optimizer = GroupedOptimizer(trainable_variables(model), task.head_layers, settings.optimizer, 10_000, MOMENTUM[config.switches.momentum])
    step = loop.make_step(task, settings, tf.distribute.get_strategy(), optimizer, loop.LossScale(settings.precision))
    traced_as = contextlib.nullcontext if variant == "with the graph optimiser" else loop.as_written

    def run():
        with traced_as():
            float(step(data)[0]["loss"])

    return run


def work(arguments) -> None:
    """The process of one variant: every line on standard input is answered with the seconds of one step."""
    from tfwsss.config.files import load_config

    step = make_step(load_config(arguments.config, arguments.set), arguments.network[0], arguments.variant)
    for _ in range(3):  # traces, allocates
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print((time.perf_counter() - start) / int(line), flush=True)


def measure(arguments, network: str) -> dict[str, list[float]]:
    command = [sys.executable, __file__, arguments.config, *(f"--set={text}" for text in arguments.set), "--network", network]
    workers: dict[str, Any] = {}
    taken: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for variant in VARIANTS:
        environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0" if variant == "without oneDNN" else "1"}
        workers[variant] = subprocess.Popen(
            [*command, "--variant", variant], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if workers[variant].stdout.readline().strip() != "ready":
            raise SystemExit(f"{variant}: the process ended; run {' '.join(command)} --variant '{variant}' to see why")
    for _ in range(arguments.rounds):
        for variant, worker in workers.items():
            worker.stdin.write(f"{arguments.steps}\n")
            worker.stdin.flush()
            taken[variant].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="in each round (default: %(default)s)")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        return work(arguments)
    print("| network | variant | ms a step | x as shipped |\n|---|---|---|---|")
    for network in arguments.network:
        taken = measure(arguments, network)
        for variant, seconds in taken.items():
            factor = statistics.median(own / shipped for own, shipped in zip(seconds, taken["as shipped"], strict=True))
            print(f"| {network} | {variant} | {1e3 * statistics.median(seconds):.0f} | {factor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
