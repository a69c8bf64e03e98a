"""The multi-label classifier whose last convolution yields the class activation maps (Ahn & Kwak, CVPR 2018)."""

from __future__ import annotations

from typing import Literal, get_args

import keras

from tfwsss import stack
from tfwsss.errors import ConfigError
from tfwsss.models import backbones, spec
from tfwsss.models.backbones import Options
from tfwsss.models.layers import GlobalLogSumExpPooling2D, conv2d

DROPOUT = 0.5
RARE = -2.0  # logit of a cell in which nothing was recognised, at first: a soft maximum has no negative cells that outweigh a positive one
Depth = Literal["deep", "middle", "shallow"]
Pooling = Literal["average", "log_sum_exp"]
DEPTHS = {"shallow": 0, "middle": 1, "deep": 2}  # number of the trunk's map


def check_num_classes(num_classes) -> None:
    """Raises ConfigError unless num_classes (without background) is a positive integer."""
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ConfigError(f"num_classes: found {num_classes!r}, expected an integer >= 1")


@spec.builder("classifier")
def build_classifier(
    backbone: str,
    num_classes: int,
    *,
    width: float = 1.0,
    output_stride: int = 8,
    batch_norm: backbones.BatchNorm = "frozen",
    freeze: bool = True,
    dropout: backbones.BottleneckDropout = "spatial",
    depth: Depth = "deep",
    pooling: Pooling = "average",
    sharpness: float = 4.0,
) -> tuple[keras.Model, set[str]]:
    """Build the classifier: backbone, channel dropout 0.5, 1x1 convolution `fc8`, global pooling.

    The average comes after `fc8`; both are linear, so the result is that of averaging first, and the maps of
    `class_maps` are an intermediate tensor of this very graph. PSA has depth "deep" and pooling "average"; `fc8` has a bias with "log_sum_exp" only.

    Args:
        backbone: name in `tfwsss.models.BACKBONES`.
        num_classes: classes without background.
        width, output_stride, batch_norm, freeze, dropout: see `tfwsss.models.backbones.Options`.
        depth: which of the trunk's maps; the backbone ends there.
        pooling: mean of a class's map, or a soft maximum (`GlobalLogSumExpPooling2D`) of this sharpness.

    Returns:
        Model: image [B, H, W, 3] normalised float32 -> logits [B, num_classes] float32.

    Raises:
        ConfigError: an argument has a wrong value.
    """
    check_num_classes(num_classes)
    for name, found, known in (("depth", depth, DEPTHS), ("pooling", pooling, get_args(Pooling))):
        if found not in known:
            raise ConfigError(f"{name}: found {found!r}, expected one of {', '.join(known)}")
    options = Options("classifier", width, output_stride, batch_norm, freeze, dropout)
    trunk = backbones.build_trunk(backbone, options)
    x = stack.SpatialDropout2D(DROPOUT, name="drop7")(list(trunk.maps.values())[DEPTHS[depth]])
    soft = pooling == "log_sum_exp"
    x = conv2d(x, num_classes, 1, name="fc8", initializer="glorot_uniform", use_bias=soft, bias=RARE)
    # Low precision ends here: sums over the image and the loss are float32 under every policy.
    x = keras.layers.Activation("linear", dtype="float32", name="class_maps")(x)
    if soft:
        logits = GlobalLogSumExpPooling2D(sharpness, name="logits")(x)
    else:
        logits = keras.layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)
    model = keras.Model(trunk.inputs, logits, name=f"{backbone}_classifier")
    backbones.freeze(model, trunk, options)
    return model, {"fc8"}


def layers_left_out(model: keras.Model) -> frozenset[str]:
    """Names of the backbone's layers behind the map at which a classifier ends; of other networks none."""
    found = spec.model_spec(model)
    if found["builder"] != "classifier" or found["arguments"].get("depth", "deep") == "deep":
        return frozenset()
    whole = build_classifier(**(found["arguments"] | {"depth": "deep"}))
    return frozenset({layer.name for layer in whole.layers} - {layer.name for layer in model.layers})


def class_maps(classifier: keras.Model) -> keras.Model:
    """The class activation maps of a classifier, before any activation; shares the classifier's weights.

    Returns:
        Model: image [B, H, W, 3] normalised -> maps [B, h, w, num_classes] float32, h = ceil(H / stride) with the stride of the
        map that they are made of, for depth "deep" output_stride.

    Raises:
        ConfigError: the model is not a classifier of this package.
    """
    found = spec.model_spec(classifier)["builder"]
    if found != "classifier":
        raise ConfigError(f"class_maps: found a model of builder {found!r}, expected 'classifier'")
    return keras.Model(classifier.input, classifier.get_layer("class_maps").output, name="class_maps")


def evidence(classifier: keras.Model) -> keras.Model:
    """What a classifier's class maps are made of; shares the classifier's weights.

    Returns:
        Model: image [B, H, W, 3] normalised -> [the trunk's maps in front of the one that the class maps are made of, shallow to
        deep, and the class maps].

    Raises:
        ConfigError: the model is not a classifier of this package, or there is no map in front.
    """
    found = spec.model_spec(classifier)
    if found["builder"] != "classifier":
        raise ConfigError(f"evidence: found a model of builder {found['builder']!r}, expected 'classifier'")
    arguments = found["arguments"]
    before = DEPTHS[arguments.get("depth", "deep")]
    if not before:
        raise ConfigError("layer_cam: a classifier of depth 'shallow' has no earlier map; expected depth 'deep' or 'middle'")
    options = Options("classifier", **{name: arguments[name] for name in ("width", "output_stride", "batch_norm", "freeze", "dropout") if name in arguments})
    trunk = backbones.build_trunk(arguments["backbone"], options)
    maps = list(trunk.maps.values())
    layers = keras.Model(trunk.inputs, maps[-1]).layers
    names = [layer.name for one in maps[:before] for layer in layers if layer.output is one]
    outputs = [classifier.get_layer(name).output for name in [*names, "class_maps"]]
    return keras.Model(classifier.input, outputs, name="evidence")
