"""EfficientNet-Lite 0 and 2: EfficientNet (Tan & Le, ICML 2019) without squeeze-excite and with ReLU6, made for 8 bits.

Every block expands six times, convolves depthwise and projects. As in the networks the published weights are from, stem and
last convolution do not grow with the network, nor do the first and the last stage deepen, and every convolution pads "same".
Past the wanted output stride, strided convolutions get stride 1 and those after them are dilated, as in
`tfwsss.models.keras_applications`.

Layer names are the published state dict's keys with "_" for "." and without the underscores in front:
`_blocks.3._depthwise_conv.weight` is the kernel of layer `blocks_3_depthwise_conv`. Maps: `stage3`, `stage4`, `stage5`, the
expanded maps in front of the convolutions that go from stride 8 to 16 and from 16 to 32, and the last one. `freeze` fixes
everything up to the stride-4 map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from tfwsss import stack
from tfwsss.models.backbones import Options, Trunk, register
from tfwsss.models.dilation import DilatedDepthwiseConv2D
from tfwsss.models.layers import BATCH_NORM_MOMENTUM, conv2d, round_channels
from tfwsss.normalization import EFFICIENTNET_LITE

OUTPUT_STRIDES = (8, 16, 32)
BATCH_NORM_EPSILON = 1e-3
EXPANSION = 6
STEM, LAST = 32, 1280


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them has the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int = EXPANSION


STAGES = (
    Stage(1, 16, 3, 1, expansion=1),
    Stage(2, 24, 3, 2),
    Stage(2, 40, 5, 2),
    Stage(3, 80, 3, 2),
    Stage(3, 112, 5, 1),
    Stage(4, 192, 5, 2),
    Stage(1, 320, 3, 1),
)


def _normalised(x, name: str, options: Options, *, activation: bool = True):
    momentum = BATCH_NORM_MOMENTUM if options.batch_norm == "train" else 0.99
    x = stack.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=momentum, name=name)(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x


def _depthwise(x, kernel: int, name: str, *, stride: int, dilation: int):
    kind = DilatedDepthwiseConv2D if dilation > 1 else keras.layers.DepthwiseConv2D
    return kind(kernel, strides=stride, dilation_rate=dilation, padding="same", use_bias=False, depthwise_initializer="he_normal", name=name)(x)


def _trunk(options: Options, width: float, depth: float) -> Trunk:
    inputs = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(
        round_channels(STEM, options.width), 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal", name="conv_stem"
    )(inputs)
    x = _normalised(x, "bn0", options)
    nominal, number = 2, 0  # the stride of x in the network as published, and the block's number
    expanded, stem_end = {}, ""  # by stride: the expanded map in front of the convolution that doubles it
    for stage in STAGES:
        outermost = stage in (STAGES[0], STAGES[-1])
        channels = round_channels(stage.channels, width * options.width)
        for position in range(stage.blocks if outermost else math.ceil(stage.blocks * depth)):
            shortcut, name = x, f"blocks_{number}"
            stride = stage.stride if position == 0 else 1
            if stage.expansion > 1:
                x = conv2d(x, x.shape[-1] * stage.expansion, 1, name=f"{name}_expand_conv")
                x = _normalised(x, f"{name}_bn0", options)
            if stride > 1:
                expanded[nominal] = x
            dilation = max(1, nominal // options.output_stride)
            nominal *= stride
            x = _depthwise(x, stage.kernel, f"{name}_depthwise_conv", stride=stride if nominal <= options.output_stride else 1, dilation=dilation)
            x = _normalised(x, f"{name}_bn1", options)
            x = _normalised(conv2d(x, channels, 1, name=f"{name}_project_conv"), f"{name}_bn2", options, activation=False)
            if position > 0:
                x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
            if nominal == 4:
                stem_end = name
            number += 1
    x = _normalised(conv2d(x, round_channels(LAST, options.width), 1, name="conv_head"), "bn1", options)
    maps = {"stage3": expanded[8], "stage4": expanded[16], "stage5": x}
    names = [layer.name for layer in keras.Model(inputs, x).layers]
    end = max(index for index, name in enumerate(names) if name.startswith(f"{stem_end}_"))
    strides = tuple(min(stride, options.output_stride) for stride in (8, 16, 32))
    return Trunk(inputs, maps, strides, low=expanded[4], stem=frozenset(names[: end + 1]))


@register("efficientnetlite0", normalization=EFFICIENTNET_LITE, output_strides=OUTPUT_STRIDES)
def efficientnetlite0(options: Options) -> Trunk:
    """Build EfficientNet-Lite0; maps of 240, 672 and 1280 channels at width 1."""
    return _trunk(options, width=1.0, depth=1.0)


@register("efficientnetlite2", normalization=EFFICIENTNET_LITE, output_strides=OUTPUT_STRIDES)
def efficientnetlite2(options: Options) -> Trunk:
    """Build EfficientNet-Lite2; maps of 288, 720 and 1280 channels at width 1."""
    return _trunk(options, width=1.1, depth=1.2)
