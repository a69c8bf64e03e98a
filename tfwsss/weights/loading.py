"""Filling a model from a weight file of any supported format."""

import json
from collections.abc import Collection
from pathlib import Path

from tfwsss import models
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.weights.matching import LoadReport, fill, is_published_head
from tfwsss.weights.native import read_safetensors


def load_weights(model, path, allow_mismatch: bool = False, allow_missing: Collection[str] | None = None) -> LoadReport:
    """Fill `model` from a weight file; the format is recognised by content, not by the file's name.

    Args:
        allow_mismatch: load what fits and only report the rest.
        allow_missing: names of layers that the file may lack or have in another shape. By default the layers that
            the model trains from scratch (`tfwsss.models.head_layers`); pass () to demand every variable.

    Output layers that only the file has (1000 ImageNet classes, another stage's head) are reported and ignored.

    Raises:
        WeightsError: the file is unreadable or does not fit; the model is unchanged then.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such weight file")
    heads = _scratch_layers(model) if allow_missing is None else frozenset(allow_missing)
    arrays, metadata = read_safetensors(path)
    foreign_heads = json.loads(metadata.get("head_layers", "[]"))
    return fill(model, arrays, source=path, format="safetensors", heads=heads, foreign_heads=foreign_heads,
                allow_mismatch=allow_mismatch)  # fmt: skip


def _scratch_layers(model) -> frozenset[str]:
    """Layers of the model that published files do not cover."""
    named = {layer.name for layer in model.layers if is_published_head(layer.name)}
    try:
        return frozenset(named | models.head_layers(model))
    except ConfigError:  # not one of this package's models: only the names tell
        return frozenset(named)
