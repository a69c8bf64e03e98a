"""Keras weight files (`.weights.h5`, `.h5`) of Keras 2 and 3, read with h5py alone (no code and no other file is touched).

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
import math
import re
from collections import defaultdict
from collections.abc import Iterator

import h5py
import keras
import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import MAX_ARRAYS, expanded_limit
from tfwsss.weights.variables import layer_variables, layers_of

_LISTS = ("layers", "_layer_checkpoint_dependencies")


class _File:
    """An open file with the checks: no links out of it, no array larger than the file could hold."""

    def __init__(self, file: h5py.File, limit: int):
        self.root = file
        self.left = limit
        self.visited = 0

    def member(self, group: h5py.Group, name: str):
        """A member of a group; a link, which may lead to another file, is refused."""
        self.visited += 1
        if self.visited > MAX_ARRAYS:
            raise WeightsError(f"HDF5 file of more than {MAX_ARRAYS} entries")
        if not isinstance(group, h5py.Group) or name not in group:
            raise WeightsError(f"HDF5 file without {group.name}/{name}")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise WeightsError(f"HDF5 entry {name!r} is a link, possibly to another file; refused")
        return group[name]

    def children(self, group: h5py.Group) -> dict:
        """All members of a group."""
        return {name: self.member(group, name) for name in group}

    def texts(self, group: h5py.Group, name: str) -> list[str] | None:
        """An attribute that is a list of texts; long ones are split over NAME0, NAME1, ... None: not there."""
        attributes, values = group.attrs, []
        numbered = itertools.takewhile(attributes.__contains__, (f"{name}{part}" for part in itertools.count()))
        parts = [name] if name in attributes else list(numbered)
        for part in parts:
            stored = attributes.get_id(part)
            if math.prod(stored.shape) * stored.dtype.itemsize > self.left:
                raise WeightsError(f"HDF5 attribute {part!r} of shape {stored.shape}: implausible")
            values.extend(np.ravel(attributes[part]).tolist())
        if not parts:
            return None
        return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]

    def array(self, dataset: h5py.Dataset) -> np.ndarray:
        """A data set's values."""
        if dataset.external or dataset.is_virtual:
            raise WeightsError(f"HDF5 data set {dataset.name!r} has its values in another file; refused")
        if dataset.dtype.kind not in "fiu" or dataset.shape is None:
            raise WeightsError(f"HDF5 data set {dataset.name!r} of type {dataset.dtype}, expected numbers")
        self.left -= dataset.nbytes
        if self.left < 0:
            raise WeightsError(f"HDF5 data set {dataset.name!r} of {dataset.nbytes} bytes declared: implausible")
        return dataset[()]


def _snake_case(name: str) -> str:
    """Class name to group name, as Keras does it: DepthwiseConv2D -> depthwise_conv2d."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _named(layer_name: str, arrays: list[np.ndarray], layers: dict) -> dict[str, np.ndarray]:
    """Arrays of one layer in order -> {"layer/variable": array}; numbers stand for names the model lacks."""
    names = list(layer_variables(layers[layer_name])) if layer_name in layers else []
    names += [str(index) for index in range(len(names), len(arrays))]
    return {f"{layer_name}/{name}": array for name, array in zip(names, arrays, strict=False)}


def _legacy(file: _File, group: h5py.Group, layer_names: list[str], layers: dict) -> dict[str, np.ndarray]:
    named = {}
    for layer_name in layer_names:
        layer_group = file.member(group, layer_name)
        by_layer = defaultdict(list)
        for weight_name in file.texts(layer_group, "weight_names") or []:
            node = layer_group
            for part in weight_name.split("/"):
                node = file.member(node, part)
            if not isinstance(node, h5py.Dataset):
                raise WeightsError(f"HDF5 file without the array of its weight {weight_name!r}")
            # The group of a model inside the model holds the weights of many layers.
            inner = weight_name.split("/")[-2:][0]
            owner = inner if layer_name not in layers and inner in layers else layer_name
            by_layer[owner].append(file.array(node))
        for owner, arrays in by_layer.items():
            named.update(_named(owner, arrays, layers))
    return named


def _variable_groups(file: _File, group: h5py.Group, depth: int = 0) -> dict[str, h5py.Group]:
    """{path: its `vars` group} of everything below `group` that has variables, random generators left out."""
    found = {}
    if depth > 16:
        raise WeightsError("HDF5 file of more than 16 levels")
    for name, member in file.children(group).items():
        if not isinstance(member, h5py.Group) or name == "seed_generator":
            continue
        if name == "vars":
            if len(member):
                found[""] = member
            continue
        for path, variables in _variable_groups(file, member, depth + 1).items():
            found[f"{name}/{path}" if path else name] = variables
    return found


def _kinds(layer) -> tuple[str, str]:
    """Names of the layer's class and of the Keras class it is or extends: files of published networks know only those."""
    classes = [c.__name__ for c in type(layer).__mro__ if getattr(keras.layers, c.__name__, None) is c]
    return type(layer).__name__, classes[0] if classes else type(layer).__name__


def _numbered(layers: dict, heads: frozenset[str]) -> Iterator[dict[str, str]]:
    """The ways in which a file may number the layers that have variables: {group name: layer name}."""
    for which, without in itertools.product((0, 1), (frozenset(), heads)):
        table, counts = {}, defaultdict(int)
        for name, layer in layers.items():
            if name in without or not layer.weights:
                continue
            kind = _snake_case(_kinds(layer)[which])
            table[f"{kind}_{counts[kind]}" if counts[kind] else kind] = name
            counts[kind] += 1
        yield table


def _modern(file: _File, groups: dict[str, h5py.Group], layers: dict, heads: frozenset[str]) -> dict[str, np.ndarray]:
    short = {"/".join(part for part in path.split("/") if part not in _LISTS): group for path, group in groups.items()}
    # Numbered groups say which layer they are only if the whole sequence is there, with or without the output layers.
    numbered = next((table for table in _numbered(layers, heads) if table.keys() == short.keys()), {})
    named = {}
    for path, group in short.items():
        attribute = group.attrs.get("name")
        layer_name = attribute if isinstance(attribute, str) else numbered.get(path, path)
        members = file.children(group)
        arrays = [members[key] for key in sorted(members, key=int)]
        if not all(isinstance(array, h5py.Dataset) for array in arrays):
            raise WeightsError(f"HDF5 group {path!r} holds something else than arrays")
        named.update(_named(layer_name, [file.array(array) for array in arrays], layers))
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
    with h5py.File(path, "r") as opened:
        file = _File(opened, expanded_limit(path))
        root = file.children(opened)
        group = root["model_weights"] if isinstance(root.get("model_weights"), h5py.Group) else opened
        layer_names = file.texts(group, "layer_names")
        if layer_names is not None:
            return _legacy(file, group, layer_names, layers)
        # Beside the layers stand the optimizer and the metrics.
        lists = [root[name] for name in _LISTS if isinstance(root.get(name), h5py.Group)]
        groups = _variable_groups(file, lists[0] if lists else opened)
        if not groups:
            raise WeightsError("an HDF5 file, but no weight file of Keras")
        return _modern(file, groups, layers, heads)
