"""Start weights of all trainings: whether they are there, and whether they fit the networks that begin with them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tfwsss.config import Config
from tfwsss.config.networks import AFFINITY_FEATURES
from tfwsss.config.published_weights import APPLICATIONS, HOST, PACKAGES
from tfwsss.errors import WeightsError
from tfwsss.storage.atomic import require_regular

from .inputs import TRAININGS, weight_files

SECONDS = 3.0  # for a server to take a connection


def weight_problems(config: Config, finished: frozenset[str] = frozenset()) -> list[str]:
    """One line for each training that cannot begin for want of its weights: a file that cannot be read, a package that is not installed.

    Args:
        config: of the run.
        finished: names of trainings that need theirs no more.
    """
    problems = []
    for name, path in weight_files(config).items():
        if name.partition(".")[0] in finished:
            continue
        try:
            require_regular(path)
            with path.open("rb") as file:
                if not file.read(1):
                    problems.append(f"{name}: {path}: the file is empty")
        except FileNotFoundError:
            problems.append(f"{name}: {path}: no such weight file")
        except OSError as error:
            problems.append(f"{name}: {path}: cannot be read: {error.strerror}")
    for training in TRAININGS:
        model = getattr(config, training).model
        if model.weights == "imagenet" and model.backbone in PACKAGES and training not in finished:
            try:
                PACKAGES[model.backbone].find()
            except WeightsError as error:
                problems.append(f"{training}.model.{error}")
    return problems


def misfits(config: Config, classes: Callable[[], int], trainings: Collection[str]) -> list[str]:
    """One line for each weight file that the network of its training cannot begin with, found by loading it in a process of its own.

    Args:
        config: of the run; `weight_problems` has found its files to be there.
        classes: function that gives the number of classes without background.
        trainings: names of those to try.
    """
    files = {name.partition(".")[0]: path for name, path in weight_files(config).items()}
    files = {training: path for training, path in files.items() if training in trainings}
    if not files:
        return []
    count = classes()
    tasks = [_task(config, training, str(path), count) for training, path in files.items()]
    # The processor's: devices belong to the process that trains.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-m", "tfwsss.weights.trial"]
    done = subprocess.run(command, input=json.dumps(tasks), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"trial": ')]
    faults = [line["trial"] for line in found]
    if len(faults) < len(tasks) and done.returncode < 0:  # a signal ended it while it read the next one
        faults.append(f"{tasks[len(faults)]['file']}: reading it ends the process")
    return [f"{task['training']}.model.weights: {' '.join(fault.split())}" for task, fault in zip(tasks, faults, strict=False) if fault]


def _task(config: Config, training: str, file: str, classes: int) -> dict[str, Any]:
    settings = getattr(config, training)
    arguments: dict[str, Any] = {"backbone": settings.model.backbone, "width": settings.model.width, "output_stride": settings.model.output_stride}
    if training == "affinitynet":
        arguments["features"] = AFFINITY_FEATURES[config.switches.affinity_width]
    else:
        arguments["num_classes"] = classes
    if training == "segmenter":
        arguments["head"] = settings.head
    return {"training": training, "file": file, "builder": training, "arguments": arguments, "whole": settings.epochs == 0}


def download_warnings(config: Config, finished: frozenset[str] = frozenset()) -> list[str]:
    """One line for each weight file that keras.applications would download, where the server is out of reach."""
    wanted: dict[str, list[str]] = {}
    for training in TRAININGS:
        model = getattr(config, training).model
        if model.weights == "imagenet" and model.backbone in APPLICATIONS and training not in finished:
            wanted.setdefault(APPLICATIONS[model.backbone].file_of(model.width), []).append(training)
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    absent = {file: trainings for file, trainings in wanted.items() if not (cache / file).is_file()}
    if not absent or any(name.lower() == "https_proxy" for name in os.environ) or answers(HOST, 443):
        return []
    return [f"{', '.join(trainings)}: weights 'imagenet': {HOST}, from which {file} is downloaded, is out of reach; put the file into {cache}" for file, trainings in absent.items()]


def answers(host: str, port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError:
        return False
    return True
