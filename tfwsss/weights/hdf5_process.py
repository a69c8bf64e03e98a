"""Dump an HDF5 file's arrays and texts for `tfwsss.weights.hdf5`; run as a program of its own.

libhdf5 hangs or crashes on some damaged files, and a thread cannot be stopped. This program can; it imports h5py and
numpy only, so that it starts at once.

    python -P hdf5_process.py FILE TARGET.npz LIMIT SECONDS

TARGET gets the arrays under the keys "0", "1", ... and under "index" JSON text: {"arrays": [path, ...],
"attributes": {group path: {name: [text, ...]}}}, or {"error": message}. LIMIT: bytes that all arrays may take together.
SECONDS: of processor time, after which the system ends this program.
"""

from __future__ import annotations

import itertools
import json
import math
import resource
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MAX_ENTRIES = 100_000
MAX_DEPTH = 16
# Address space beside the arrays: libraries and their thread stacks.
OWN_MEMORY = 2 * 2**30
TEXTS = ("layer_names", "weight_names", "name")
NO_WEIGHTS = ("optimizer", "optimizer_weights", "metrics")


class Refused(Exception):
    """The file is not read; the message says why."""


class Dump:
    """What was found so far."""

    def __init__(self, limit: int):
        self.limit = self.left = limit
        self.entries = 0
        self.arrays: dict[str, np.ndarray] = {}
        self.attributes: dict[str, dict[str, list[str]]] = {}

    def group(self, group: h5py.Group, path: str, depth: int = 0) -> None:
        """Everything below a group; no link out of the file is followed."""
        if depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} levels of groups")
        texts = {name: self.texts(group, name) for name in TEXTS}
        self.attributes[path] = {name: values for name, values in texts.items() if values is not None}
        for name in group:
            self.entries += 1
            if self.entries > MAX_ENTRIES:
                raise Refused(f"more than {MAX_ENTRIES} entries")
            if depth == 0 and name in NO_WEIGHTS:
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise Refused(f"{path}/{name} is a link, possibly to another file")
            member = group[name]
            if isinstance(member, h5py.Group):
                self.group(member, f"{path}/{name}", depth + 1)
            elif isinstance(member, h5py.Dataset):
                self.dataset(member, f"{path}/{name}")

    def dataset(self, dataset: h5py.Dataset, path: str) -> None:
        """One array."""
        if dataset.external or dataset.is_virtual:
            raise Refused(f"{path} has its values in another file")
        if dataset.dtype.kind not in "fiu" or dataset.shape is None:
            raise Refused(f"{path} is of type {dataset.dtype}, expected numbers")
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        if chunk > self.limit:
            raise Refused(f"{path}: a chunk of {chunk} bytes, which is implausible")
        self.left -= dataset.nbytes
        if self.left < 0:
            raise Refused(f"{path}: {dataset.nbytes} bytes declared, which is implausible")
        self.arrays[path] = dataset[()]

    def texts(self, group: h5py.Group, name: str) -> list[str] | None:
        """An attribute that is one text or a list; Keras splits long lists over NAME0, NAME1, ... None: not there."""
        attributes, values = group.attrs, []
        numbered = itertools.takewhile(attributes.__contains__, (f"{name}{part}" for part in itertools.count()))
        parts = [name] if name in attributes else list(numbered)
        for part in parts:
            stored = attributes.get_id(part)
            if math.prod(stored.shape) * stored.dtype.itemsize > self.left:
                raise Refused(f"attribute {part!r} of shape {stored.shape}, which is implausible")
            values.extend(np.ravel(attributes[part]).tolist())
        if not parts:
            return None
        return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _limit(kind: int, soft: int, hard: int) -> None:
    """Limit this process, within what a batch system or a shell has limited it to already."""
    given = resource.getrlimit(kind)[1]
    if given != resource.RLIM_INFINITY:
        soft, hard = min(soft, given), min(hard, given)
    resource.setrlimit(kind, (soft, hard))


def main(source: str, target: str, limit: int, seconds: int) -> None:
    """Read `source`, write `target`."""
    _limit(resource.RLIMIT_CPU, seconds, seconds + 5)
    _limit(resource.RLIMIT_AS, limit + OWN_MEMORY, limit + OWN_MEMORY)
    dump = Dump(limit)
    try:
        with h5py.File(source, "r") as file:
            dump.group(file, "")
        index = {"arrays": list(dump.arrays), "attributes": dump.attributes}
        arrays = list(dump.arrays.values())
    except Exception as error:  # damaged files raise nearly anything
        message = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        index, arrays = {"error": message}, []
    with Path(target).open("wb") as file:
        entries: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
        np.savez(file, index=json.dumps(index), **entries)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
