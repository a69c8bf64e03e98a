"""What an exported ONNX file says about itself, and copies of it that take no room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from tfwsss.errors import ExportError
from tfwsss.storage.atomic import atomic_path


class Tensor(NamedTuple):
    """An input or output: name, NumPy's name of the element type, sizes of all axes, -1 where free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Exported(NamedTuple):
    """An ONNX file that tfwsss has exported.

    Attributes:
        path: of the file.
        inputs, outputs: of its graph.
        metadata: what `tfwsss.export.export_onnx` has put into it, JSON values.
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict


def read_exported(path: Path) -> Exported:
    """Read an exported ONNX file.

    Raises:
        ExportError: there is none, or another program has written it.
    """
    import onnx
    from google.protobuf.message import DecodeError

    from tfwsss_onnx import ModelError
    from tfwsss_onnx.metadata import read_metadata

    if not path.is_file():
        raise ExportError(f"{path}: no such file, run the export first")
    try:
        model = onnx.load(path)
        metadata = read_metadata({entry.key: entry.value for entry in model.metadata_props}, path)
    except (DecodeError, ModelError) as error:
        raise ExportError(f"{path}: not exported by tfwsss: {str(error).splitlines()[0]}") from None
    return Exported(path, _tensors(model.graph.input), _tensors(model.graph.output), metadata)


def _tensors(values) -> tuple[Tensor, ...]:
    from onnx.helper import tensor_dtype_to_np_dtype

    types = [(value.name, value.type.tensor_type) for value in values]
    return tuple(Tensor(name, tensor_dtype_to_np_dtype(kind.elem_type).name, tuple(axis.dim_value or -1 for axis in kind.shape.dim)) for name, kind in types)


def place(source: Path, target: Path) -> None:
    """Make `target` a second name of a file, where the file system can do that, and else a copy; what was there is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
