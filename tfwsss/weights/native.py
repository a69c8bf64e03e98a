"""The project's weight file: safetensors with named arrays and the recipe of the model.

Arrays are float32 in the Keras layout (convolution kernels height, width, in, out), named `layer/variable`. The
metadata (all values text) are

    format          "tfwsss"
    format_version  "1"
    builder         "classifier", "affinitynet" or "segmenter"; absent for a model built by somebody else
    arguments       JSON object, the builder's arguments
    head_layers     JSON list, layers trained from scratch
    dtype           "float32"
    keras           version that wrote the file, for information

The same file is read by both Keras generations, and by anything that reads safetensors.
"""

import contextlib
import json
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open

from tfwsss import models
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.models.parameter_budget import parameter_budget
from tfwsss.storage.atomic import atomic_path
from tfwsss.weights.array_file import save_arrays
from tfwsss.weights.matching import fill
from tfwsss.weights.variables import named_variables

# keras.applications build a network that is built again with other strides; small ones have parts without weights of their own.
_BUILDS, _ROOM = 4, 1_000_000
FORMAT = "tfwsss"
FORMAT_VERSION = "1"


def save_weights(model, path) -> None:
    """Write the model's weights and, for a model of `tfwsss.models`, how to build it. Atomic.

    Raises:
        WeightsError: two variables of the model have the same name.
    """
    arrays = {name: np.asarray(variable.numpy(), np.float32) for name, variable in named_variables(model).items()}
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "dtype": "float32",
        "keras": keras.__version__,
    }
    with contextlib.suppress(ConfigError):  # somebody else's model has no recipe, and is saved without
        spec = models.model_spec(model)
        metadata["builder"] = spec["builder"]
        metadata["arguments"] = json.dumps(spec["arguments"], sort_keys=True)
        metadata["head_layers"] = json.dumps(sorted(models.head_layers(model)))
    with atomic_path(path) as temporary:
        save_arrays(arrays, temporary, metadata)


def read_safetensors(path) -> tuple[dict, dict]:
    """Read ({name: float array}, metadata) of any safetensors file.

    Raises:
        WeightsError: the file is missing, damaged, or holds a type that numpy lacks (bfloat16).
    """
    try:
        with safe_open(Path(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path}: not readable as safetensors: {str(error)[:300]}") from error


def load_model(path):
    """Build the model a weight file was saved from, and load it; every variable must match.

    Returns:
        keras.Model
    Raises:
        WeightsError: not a file of `save_weights`, of a newer format, without a recipe, or not fitting its recipe.
    """
    arrays, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a tfwsss weight file, its metadata has format={metadata.get('format')!r}")
    if metadata.get("format_version") != FORMAT_VERSION:
        found = metadata.get("format_version")
        raise WeightsError(f"{path}: format_version {found!r}, this version of tfwsss reads {FORMAT_VERSION!r}")
    if "builder" not in metadata:
        raise WeightsError(f"{path}: holds weights only; build the model and use load_weights(model, path)")
    try:
        spec = {"builder": metadata["builder"], "arguments": json.loads(metadata["arguments"])}
        with parameter_budget(_ROOM + _BUILDS * sum(array.size for array in arrays.values())):
            model = models.build(spec)
    except (ConfigError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{path}: the recipe in the metadata cannot be built: {error}") from error
    fill(model, arrays, source=path, format="tfwsss safetensors", heads=())
    return model
