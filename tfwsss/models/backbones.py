"""The registry of backbones: what a backbone is, and how a network finds one by name.

A backbone family is one module with one function per backbone, registered by decorator:

    @register("resnet38", normalization=TORCH, output_strides=(8,))
    def resnet38(options: Options) -> Trunk: ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras

from tfwsss.errors import ConfigError
from tfwsss.normalization import Normalization

BatchNorm = Literal["frozen", "train"]
BottleneckDropout = Literal["spatial", "elementwise"]


@dataclass(frozen=True)
class Options:
    """What a backbone is asked for.

    Attributes:
        network: which network the backbone is for (VGG16's field of view depends on it).
        width: channel multiplier, > 0.
        output_stride: pixels per cell of the deepest map.
        batch_norm: "frozen" (running statistics and fixed gamma/beta, also in training) or "train".
        freeze: keep the first blocks fixed.
        dropout: dropout of the resnet38 bottlenecks: "spatial" (whole channels, before the last two convolutions, as
            the PSA reference code) or "elementwise" (before the last convolution, as the network's authors).
    """

    network: Literal["classifier", "affinitynet", "segmenter"]
    width: float = 1.0
    output_stride: int = 8
    batch_norm: BatchNorm = "frozen"
    freeze: bool = True
    dropout: BottleneckDropout = "spatial"


@dataclass(frozen=True)
class Trunk:
    """A built backbone: symbolic tensors of a functional graph.

    Attributes:
        inputs: image, [B, H, W, 3] normalised.
        maps: three feature maps by name, shallow to deep, each [B, ceil(H / s), ceil(W / s), c].
        strides: their strides s.
        low: the stride-4 map for the DeepLabV3+ decoder.
        stem: names of the layers that `freeze` keeps fixed.
    """

    inputs: Any
    maps: dict[str, Any]
    strides: tuple[int, ...]
    low: Any
    stem: frozenset[str]

    @property
    def deepest(self):
        """The last map."""
        return list(self.maps.values())[-1]


@dataclass(frozen=True)
class Backbone:
    """A registered backbone.

    Attributes:
        build: makes the layers.
        normalization: how its inputs are normalised.
        cam_activation: activation of its class maps, "relu" or "sqrt" (square root of the rectified map).
        output_strides: supported output strides.
        group_norm: whether AffinityNet normalises its three maps (they differ in scale without it).
    """

    name: str
    build: Callable[[Options], Trunk]
    normalization: Normalization
    cam_activation: Literal["relu", "sqrt"]
    output_strides: tuple[int, ...]
    group_norm: bool


BACKBONES: dict[str, Backbone] = {}


def register(
    name: str,
    *,
    normalization: Normalization,
    output_strides: tuple[int, ...],
    cam_activation: Literal["relu", "sqrt"] = "relu",
    group_norm: bool = True,
):
    """Decorator: make a backbone available under `name`."""

    def decorate(build: Callable[[Options], Trunk]) -> Callable[[Options], Trunk]:
        BACKBONES[name] = Backbone(name, build, normalization, cam_activation, output_strides, group_norm)
        return build

    return decorate


def find(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ConfigError: unknown name; the message lists the known ones.
    """
    if name not in BACKBONES:
        raise ConfigError(f"backbone: found {name!r}, expected one of {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name]


def _check(field: str, value, choices) -> None:
    if value not in choices:
        raise ConfigError(f"{field}: found {value!r}, expected one of {', '.join(map(repr, choices))}")


def build_trunk(name: str, options: Options) -> Trunk:
    """Build a backbone.

    Raises:
        ConfigError: unknown name, or an option outside what the backbone supports.
    """
    backbone = find(name)
    _check(f"{name}: output_stride", options.output_stride, backbone.output_strides)
    _check("batch_norm", options.batch_norm, ("frozen", "train"))
    _check("dropout", options.dropout, ("spatial", "elementwise"))
    if not options.width > 0:
        raise ConfigError(f"width: found {options.width!r}, expected a number > 0")
    return backbone.build(options)


def freeze(model: keras.Model, trunk: Trunk, options: Options) -> None:
    """Set `trainable` of every layer of the backbone as `options` say.

    A batch normalisation that is not trainable uses its running statistics even under training=True.
    """
    normalisations: tuple[type, ...] = ()
    if options.batch_norm == "frozen":
        normalisations = (keras.layers.BatchNormalization,)
    for layer in model.layers:
        if (options.freeze and layer.name in trunk.stem) or isinstance(layer, normalisations):
            layer.trainable = False
