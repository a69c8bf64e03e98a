"""Named arrays in a safetensors file whose bytes depend on its contents alone."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file


def save_arrays(arrays: dict, path: Path, metadata: dict[str, str]) -> None:
    """Write {name: C-contiguous array} and {name: text}.

    safetensors writes the metadata in a random order, so that files of two equal trainings would differ. The header is
    8 bytes that say how long it is, and JSON with spaces at its end.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.
    """
    try:
        save_file(arrays, path, metadata)
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):  # the library's own text names no file
            raise OSError(int(number.group(1)), os.strerror(int(number.group(1))), str(path)) from None
        raise
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # always, unless the two ways to write JSON differ; then the file stays as it is
            file.seek(8)
            file.write(text.ljust(length))
