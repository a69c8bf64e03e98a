"""ResNet38 ("Model A1" of Wu et al., "Wider or Deeper", 2016), the backbone of the PSA paper. Output stride 8.

Pre-activation residual blocks, no biases, no pooling; 105.12 M weights at width 1. In the PSA reference code batch
normalisation is never trained, and conv1a and the b2 blocks are fixed.

Layer names are the reference code's module names with "_" for ".": the state-dict key `b2_1.conv_branch2a.weight` is
the kernel of layer `b2_1_conv_branch2a`, `bn7.running_mean` is the moving mean of layer `bn7`, `conv1a.weight` is the
kernel of `conv1a`. Maps: `conv4`, `conv5` (inputs of blocks b5, b6 after normalisation and ReLU) and `conv6`.
"""

import keras

from tfwsss import stack
from tfwsss.models.backbones import Options, Trunk, register
from tfwsss.models.layers import batch_norm, conv2d, relu, round_channels
from tfwsss.normalization import TORCH

# name: mid channels, out channels, stride, dilation of the first and of the second 3x3 convolution
BLOCKS = {
    "b2": (128, 128, 2, 1, 1),
    "b2_1": (128, 128, 1, 1, 1),
    "b2_2": (128, 128, 1, 1, 1),
    "b3": (256, 256, 2, 1, 1),
    "b3_1": (256, 256, 1, 1, 1),
    "b3_2": (256, 256, 1, 1, 1),
    "b4": (512, 512, 2, 1, 1),
    "b4_1": (512, 512, 1, 1, 1),
    "b4_2": (512, 512, 1, 1, 1),
    "b4_3": (512, 512, 1, 1, 1),
    "b4_4": (512, 512, 1, 1, 1),
    "b4_5": (512, 512, 1, 1, 1),
    "b5": (512, 1024, 1, 1, 2),
    "b5_1": (512, 1024, 1, 2, 2),
    "b5_2": (512, 1024, 1, 2, 2),
}
# name: channels of the three convolutions, dilation of the middle one, dropout rate
BOTTLENECKS = {
    "b6": (512, 1024, 2048, 4, 0.3),
    "b7": (1024, 2048, 4096, 4, 0.5),
}
FROZEN_BLOCKS = ("conv1a", "b2_")


def _block(x, name, mid, out, stride, dilation_a, dilation_b, activation_name):
    a = relu(batch_norm(x, f"{name}_bn_branch2a"), activation_name)
    # The shortcut is taken before the pre-activation only where it is the identity.
    shortcut = x
    if stride > 1 or x.shape[-1] != out:
        shortcut = conv2d(a, out, 1, stride=stride, name=f"{name}_conv_branch1")
    y = conv2d(a, mid, 3, stride=stride, dilation=dilation_a, name=f"{name}_conv_branch2a")
    y = relu(batch_norm(y, f"{name}_bn_branch2b1"), f"{name}_relu_branch2b1")
    y = conv2d(y, out, 3, dilation=dilation_b, name=f"{name}_conv_branch2b1")
    return keras.layers.Add(name=f"{name}_add")([shortcut, y]), a


def _bottleneck(x, name, narrow, mid, out, dilation, rate, dropout, activation_name):
    a = relu(batch_norm(x, f"{name}_bn_branch2a"), activation_name)
    shortcut = conv2d(a, out, 1, name=f"{name}_conv_branch1")
    y = conv2d(a, narrow, 1, name=f"{name}_conv_branch2a")
    y = relu(batch_norm(y, f"{name}_bn_branch2b1"), f"{name}_relu_branch2b1")
    if dropout == "spatial":
        y = stack.SpatialDropout2D(rate, name=f"{name}_dropout_2b1")(y)
    y = conv2d(y, mid, 3, dilation=dilation, name=f"{name}_conv_branch2b1")
    y = relu(batch_norm(y, f"{name}_bn_branch2b2"), f"{name}_relu_branch2b2")
    layer = stack.SpatialDropout2D if dropout == "spatial" else stack.Dropout
    y = layer(rate, name=f"{name}_dropout_2b2")(y)
    y = conv2d(y, out, 1, name=f"{name}_conv_branch2b2")
    return keras.layers.Add(name=f"{name}_add")([shortcut, y]), a


@register("resnet38", normalization=TORCH, output_strides=(8,), group_norm=False)
def resnet38(options: Options) -> Trunk:
    """Build ResNet38; maps conv4 (512 channels at width 1), conv5 (1024), conv6 (4096), all of stride 8."""

    def scaled(*channels):
        return [round_channels(n, options.width) for n in channels]

    inputs = keras.Input((None, None, 3), name="image")
    x = conv2d(inputs, round_channels(64, options.width), 3, name="conv1a")
    activations = {}
    for name, (mid, out, stride, dilation_a, dilation_b) in BLOCKS.items():
        activation_name = "conv4" if name == "b5" else f"{name}_relu_branch2a"
        mid, out = scaled(mid, out)
        x, activations[name] = _block(x, name, mid, out, stride, dilation_a, dilation_b, activation_name)
    for name, (narrow, mid, out, dilation, rate) in BOTTLENECKS.items():
        activation_name = "conv5" if name == "b6" else f"{name}_relu_branch2a"
        narrow, mid, out = scaled(narrow, mid, out)
        x, activations[name] = _bottleneck(
            x, name, narrow, mid, out, dilation, rate, options.dropout, activation_name
        )
    maps = {"conv4": activations["b5"], "conv5": activations["b6"], "conv6": relu(batch_norm(x, "bn7"), "conv6")}
    names = (layer.name for layer in keras.Model(inputs, maps["conv6"]).layers)
    stem = frozenset(name for name in names if name.startswith(FROZEN_BLOCKS))
    return Trunk(inputs, maps, (8, 8, 8), low=activations["b4"], stem=stem)
