"""Comparing a weight file's arrays with a model's variables, and filling the model."""

import fnmatch
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from tfwsss import models
from tfwsss.errors import ConfigError, WeightsError
from tfwsss.weights.variables import named_variables

# Output layers of published networks: the 1000 ImageNet classes (or somebody's own), and PSA's heads.
PUBLISHED_HEADS = (
    "linear1000", "fc8*", "predictions", "probs", "fc", "fc1000", "conv_preds", "f8_[345]", "gn8_[345]", "f9",
)  # fmt: skip
# A layer of each backbone that no other has, and the backbones it tells of.
MARKS = {
    "b2_conv_branch2a": ("resnet38",),
    "conv5_3": ("vgg16",),
    "conv2_block1_1_conv": ("resnet50",),
    "layer1_0_conv3": ("resnet50v15", "resnet50irn"),
    "conv_dw_1": ("mobilenet",),
    "block_1_expand": ("mobilenetv2",),
    "blocks_20_depthwise_conv": ("efficientnetlite2",),
    "blocks_15_depthwise_conv": ("efficientnetlite0",),
}

_SHOWN = 12
LONGEST_NAME = 100  # characters of an array's name that a message shows


@dataclass(frozen=True)
class WrongShape:
    """A variable whose array in the file has another shape."""

    name: str
    found: tuple[int, ...]
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {list(self.found)} in the file, {list(self.expected)} in the model"


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did. Names are `layer/variable`.

    Attributes:
        source: the file.
        format: its format, for example "safetensors" or "Caffe".
        loaded: variables that were set.
        missing: variables of the model that the file has no array for; they keep their values.
        unexpected: arrays of the file that the model has no variable for.
        wrong_shape: variables that were left alone because the file's array has another shape.
    """

    source: str
    format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[WrongShape, ...]

    def render(self) -> str:
        """Several lines of text: the counts, then the names in each group except `loaded`."""
        lines = [f"{self.source} ({self.format}): {len(self.loaded)} arrays loaded"]
        lines += _listing("not in the file, left as initialised", self.missing)
        lines += _listing("not in the model, ignored", self.unexpected)
        lines += _listing("of another shape, left as initialised", self.wrong_shape)
        return "\n".join(lines)


def _listing(title: str, entries: Collection) -> list[str]:
    if not entries:
        return []
    shown = [f"    {str(entry)[:LONGEST_NAME]}" for entry in list(entries)[:_SHOWN]]
    rest = [f"    ... and {len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
    return [f"  {len(entries)} {title}:", *shown, *rest]


def layer_of(name: str) -> str:
    """The layer of a `layer/variable` name."""
    return name.split("/")[0]


def is_published_head(layer: str) -> bool:
    """Whether a layer of that name is the output of a published network, trained for other classes or another task."""
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in PUBLISHED_HEADS)


def backbones_of(names: Collection[str]) -> tuple[str, ...]:
    """The backbones that variables of these names (`layer/variable`) can belong to; empty if none is known."""
    layers = {layer_of(name) for name in names}
    return next((backbones for mark, backbones in MARKS.items() if mark in layers), ())


def _hint(arrays: Collection[str], variables: Collection[str]) -> str:
    """Which backbone to build instead, if it is the backbone that does not fit."""
    found = backbones_of(arrays)
    if not found or found == backbones_of(variables):
        return ""
    return f" They look like weights of the backbone {' or '.join(found)}."


def scratch_layers(model) -> frozenset[str]:
    """Layers of the model that published files do not cover."""
    named = {layer.name for layer in model.layers if is_published_head(layer.name)}
    try:
        return frozenset(named | models.head_layers(model))
    except ConfigError:  # not one of this package's models: only the names tell
        return frozenset(named)


def fill(model, arrays: dict, *, source, format: str, heads: Collection[str], foreign_heads: Collection[str] = (),
         allow_mismatch: bool = False) -> LoadReport:  # fmt: skip
    """Set the model's variables from `arrays`, all or none.

    Args:
        arrays: {"layer/variable": array in the Keras layout}.
        heads: names of the model's layers that may be absent from the file or have another shape there.
        foreign_heads: names of the file's layers that the model need not have, besides those of published networks.
        allow_mismatch: load what fits and only report the rest.

    Raises:
        WeightsError: something outside the heads does not match, nothing matches, or an array is not finite.
            The model is unchanged then.
    """
    variables = named_variables(model)
    unexpected = tuple(name for name in arrays if name not in variables)
    missing, wrong_shape, loaded = [], [], []
    for name, variable in variables.items():
        if name not in arrays:
            missing.append(name)
        elif tuple(arrays[name].shape) != tuple(variable.shape):
            wrong_shape.append(WrongShape(name, tuple(arrays[name].shape), tuple(variable.shape)))
        else:
            loaded.append(name)
    report = LoadReport(str(source), format, tuple(loaded), tuple(missing), unexpected, tuple(wrong_shape))
    others = {*foreign_heads, *heads}
    bad = LoadReport(
        report.source,
        format,
        report.loaded,
        tuple(name for name in missing if layer_of(name) not in heads),
        tuple(name for name in unexpected if not (layer_of(name) in others or is_published_head(layer_of(name)))),
        tuple(entry for entry in wrong_shape if layer_of(entry.name) not in heads),
    )
    if not loaded:
        raise WeightsError(
            f"{source}: none of the {len(arrays)} arrays of this {format} file fits the model {model.name!r}. "
            f"The file has {_some(arrays)}; the model has {_some(variables)}.{_hint(arrays, variables)}"
        )
    if not allow_mismatch and (bad.missing or bad.unexpected or bad.wrong_shape):
        raise WeightsError(
            f"the file does not fit the model {model.name!r}, which is unchanged.{_hint(arrays, variables)} {bad.render()}"
        )
    values = {name: np.asarray(arrays[name], np.float32) for name in loaded}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise WeightsError(f"{source}: {name} holds values that are not finite")
    for name, value in values.items():
        variables[name].assign(value)
    return report


def _some(names) -> str:
    names = [name[:LONGEST_NAME] for name in names]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "nothing"
