"""Keras weight files (`.weights.h5`, `.h5`) of Keras 2 and 3, read with h5py alone, in a process of its own.

Three layouts:

    layers/conv2d_3/vars/0, 1, ...    Keras 3 and Keras 2.15 `.weights.h5`. Groups are numbered by class, in the order
                                      of the model's layers; from Keras 3.9 on `vars` has the layer's name as
                                      attribute. (In Keras 2.13 `_layer_checkpoint_dependencies` stands for `layers`.)
    conv1/vars/0, 1, ...              groups named by the layers
    conv1/conv1/kernel:0              Keras 1 and 2 `.h5`: attributes `layer_names` and, per layer, `weight_names`;
                                      below `model_weights` in a file with the whole model

Inside a group variables have the order of `layer.weights`.
"""

import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights import hdf5_process
from tfwsss.weights.limits import expanded_limit
from tfwsss.weights.naming import numbered_keras_vgg16
from tfwsss.weights.variables import layer_variables, layers_of

_LISTS = ("layers", "_layer_checkpoint_dependencies")
# Reading takes a second or two for any published file; the time is for slow disks and busy machines.
SECONDS = 60.0
PROCESSOR_SECONDS = 10.0
BYTES_PER_SECOND = 5e6
# Neither lets modules beside the program stand for others. -P is new in Python 3.11; -I also ignores PYTHONPATH.
SAFE_PATH = "-P" if sys.version_info >= (3, 11) else "-I"


def dump(path) -> tuple[dict[str, np.ndarray], dict[str, dict[str, list[str]]]]:
    """({path: array}, {group path: {attribute: texts}}) of an HDF5 file; paths begin with "/", the root is "".

    Raises:
        WeightsError: damaged, with links to other files, larger than plausible, or reading it did not end.
    """
    more = Path(path).stat().st_size / BYTES_PER_SECOND
    seconds, processor_seconds = SECONDS + more, math.ceil(PROCESSOR_SECONDS + more)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "dump.npz"
        command = [sys.executable, SAFE_PATH, hdf5_process.__file__, str(path), str(target), str(expanded_limit(path)), str(processor_seconds)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, env=environment)
        except subprocess.TimeoutExpired:
            raise WeightsError(f"reading was stopped after {seconds:.0f} seconds: the file is damaged") from None
        if done.returncode == -signal.SIGXCPU:
            raise WeightsError(f"reading was stopped after {processor_seconds} seconds of processor time: the file is damaged")
        if done.returncode != 0 or not target.exists():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise WeightsError(f"the HDF5 library failed with exit code {done.returncode}: {' '.join(last)}")
        with np.load(target, allow_pickle=False) as archive:
            index = json.loads(str(archive["index"]))
            if "error" in index:
                raise WeightsError(index["error"])
            return {name: archive[str(number)] for number, name in enumerate(index["arrays"])}, index["attributes"]


def _snake_case(name: str) -> str:
    """Class name to group name, as Keras does it: DepthwiseConv2D -> depthwise_conv2d."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _named(layer_name: str, arrays: list[np.ndarray], layers: dict) -> dict[str, np.ndarray]:
    """Arrays of one layer in order -> {"layer/variable": array}; numbers stand for names the model lacks."""
    names = list(layer_variables(layers[layer_name])) if layer_name in layers else []
    names += [str(index) for index in range(len(names), len(arrays))]
    return {f"{layer_name}/{name}": array for name, array in zip(names, arrays, strict=False)}


def _legacy(root: str, arrays: dict, attributes: dict, layers: dict) -> dict[str, np.ndarray]:
    named = {}
    for layer_name in attributes[root]["layer_names"]:
        group = f"{root}/{layer_name}"
        by_layer = defaultdict(list)
        for weight_name in attributes.get(group, {}).get("weight_names", ()):
            if f"{group}/{weight_name}" not in arrays:
                raise WeightsError(f"HDF5 file without the array of its weight {layer_name}/{weight_name}")
            # The group of a model inside the model holds the weights of many layers.
            inner = weight_name.split("/")[-2:][0]
            owner = inner if layer_name not in layers and inner in layers else layer_name
            by_layer[owner].append(arrays[f"{group}/{weight_name}"])
        for owner, values in by_layer.items():
            named.update(_named(owner, values, layers))
    return named


def _variable_groups(arrays: dict) -> dict[str, tuple[str, list[np.ndarray]]]:
    """{path without list names: (its `vars` group, arrays in order)}, random generators left out."""
    numbered: defaultdict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for path, array in arrays.items():
        group, _, number = path.rpartition("/vars/")
        # Keras 2 keeps the state of a dropout's generator, integers, among the variables.
        if number.isdecimal() and not group.endswith("/seed_generator") and array.dtype.kind == "f":
            numbered[group[1:]][int(number)] = array
    # Beside the layers stand whatever else the model holds.
    listed = [path for path in numbered if path.split("/")[0] in _LISTS]
    groups = {}
    for path in listed or numbered:
        short = "/".join(part for part in path.split("/") if part not in _LISTS)
        groups[short] = (f"/{path}/vars", [array for _, array in sorted(numbered[path].items())])
    return groups


def _kinds(layer) -> tuple[str, str]:
    """Names of the layer's class and of the Keras class it is or extends: files of published networks know only those."""
    classes = [c.__name__ for c in type(layer).__mro__ if getattr(keras.layers, c.__name__, None) is c]
    return type(layer).__name__, classes[0] if classes else type(layer).__name__


def _numbered(layers: dict, heads: frozenset[str]) -> Iterator[dict[str, str]]:
    """The ways in which a file may number the layers that have variables: {group name: layer name}."""
    for which, without in itertools.product((0, 1), (frozenset(), heads)):
        table: dict[str, str] = {}
        counts: defaultdict[str, int] = defaultdict(int)
        for name, layer in layers.items():
            if name in without or not layer_variables(layer):
                continue
            kind = _snake_case(_kinds(layer)[which])
            table[f"{kind}_{counts[kind]}" if counts[kind] else kind] = name
            counts[kind] += 1
        yield table
    # Of published networks this one has other layers than the project's network.
    yield from (numbered_keras_vgg16(with_dense) for with_dense in (True, False))


def _modern(groups: dict, attributes: dict, layers: dict, heads: frozenset[str]) -> dict[str, np.ndarray]:
    # Numbered groups say which layer they are only if the whole sequence is there, with or without the output layers.
    numbered = next((table for table in _numbered(layers, heads) if table.keys() == groups.keys()), {})
    named = {}
    for path, (group, arrays) in groups.items():
        (layer_name,) = attributes.get(group, {}).get("name", [numbered.get(path, path)])
        named.update(_named(layer_name, arrays, layers))
    return named


def read_file(path, model, heads: frozenset[str]) -> dict[str, np.ndarray]:
    """{"layer/variable": array} of a Keras weight file, named by the layers of `model`.

    Args:
        heads: layers of `model` that the file may be without; they are skipped when the file's groups are only
            numbered and the numbers would not fit otherwise.

    Raises:
        WeightsError: damaged, no weight file of Keras, or with links to other files.
    """
    layers = {layer.name: layer for layer in layers_of(model)}
    arrays, attributes = dump(path)
    root = "/model_weights" if "/model_weights" in attributes else ""
    if "layer_names" in attributes[root]:
        return _legacy(root, arrays, attributes, layers)
    groups = _variable_groups(arrays)
    if not groups:
        raise WeightsError("an HDF5 file, but no weight file of Keras")
    return _modern(groups, attributes, layers, heads)
