"""AffinityNet: features whose L1 distance tells how alike two pixels' classes are (Ahn & Kwak, CVPR 2018).

Three maps of the backbone are reduced by 1x1 convolutions f8_3, f8_4, f8_5 to channels in the ratio 1 : 2 : 4 and
concatenated; f9 mixes them. Initialisers are the PSA reference code's. Layer names are its module names.

Resnet38 ends in a batch normalisation, so its maps are of one scale. Those of the other backbones are not (VGG16 has
no normalisation at all), and the mean absolute difference over all channels would be ruled by the largest map: they
get a group normalisation gn8_3, gn8_4, gn8_5 (8 channels a group) after the reduction, as the reference does for VGG16.
"""

from __future__ import annotations

import keras

from tfwsss.errors import ConfigError
from tfwsss.models import backbones, spec
from tfwsss.models.backbones import Options
from tfwsss.models.layers import Resize, conv2d, group_norm

STRIDE = 8
REDUCTIONS = ("f8_3", "f8_4", "f8_5")


def _kaiming_normal():
    # Not "he_normal", which is truncated.
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="untruncated_normal")


def _xavier_uniform_gain4():
    return keras.initializers.VarianceScaling(16.0, mode="fan_avg", distribution="uniform")


@spec.builder("affinitynet")
def build_affinitynet(
    backbone: str,
    *,
    features: int = 448,
    width: float = 1.0,
    output_stride: int = 8,
    batch_norm: backbones.BatchNorm = "frozen",
    freeze: bool = True,
    dropout: backbones.BottleneckDropout = "spatial",
) -> tuple[keras.Model, set[str]]:
    """Build AffinityNet up to its features; `tfwsss.affinity.pair_affinity` makes affinities of them.

    Args:
        backbone: name in `tfwsss.models.BACKBONES`.
        features: F, a multiple of 56 (1 : 2 : 4 in whole groups of 8). 448 as released, 896 as in the paper. Not
            scaled by `width`.
        width, output_stride, batch_norm, freeze, dropout: see `tfwsss.models.backbones.Options`. The features have
            stride 8 for every output stride: coarser maps are resized.

    Returns:
        Model: image [B, H, W, 3] normalised float32 -> features [B, ceil(H / 8), ceil(W / 8), F] float32, after the
        last ELU (> -1).

    Raises:
        ConfigError: an argument has a wrong value.
    """
    if not isinstance(features, int) or features < 56 or features % 56:
        raise ConfigError(
            f"features: found {features!r}, expected a multiple of 56 (448 as released, 896 as in the paper)"
        )
    options = Options("affinitynet", width, output_stride, batch_norm, freeze, dropout)
    trunk = backbones.build_trunk(backbone, options)
    reduced = []
    for name, x, stride, share in zip(REDUCTIONS, trunk.maps.values(), trunk.strides, (1, 2, 4), strict=True):
        x = conv2d(x, features * share // 7, 1, name=name, initializer=_kaiming_normal())
        if backbones.find(backbone).group_norm:
            x = group_norm(x, name.replace("f", "gn"))
        x = keras.layers.ELU(name=f"{name}_elu")(x)
        if stride != STRIDE:
            x = Resize(STRIDE, name=f"{name}_resize")([x, trunk.inputs])
        reduced.append(x)
    x = keras.layers.Concatenate(name="f8")(reduced)
    x = conv2d(x, features, 1, name="f9", initializer=_xavier_uniform_gain4())
    x = keras.layers.ELU(dtype="float32", name="features")(x)
    model = keras.Model(trunk.inputs, x, name=f"{backbone}_affinitynet")
    backbones.freeze(model, trunk, options)
    # The group normalisations are no "head": the reference trains them at the backbone's learning rate.
    return model, {*REDUCTIONS, "f9"}
