"""VGG16 in DeepLab's form ("vgg16_20M", LargeFOV), the second backbone of the PSA reference code. Output stride 8.

Convolutions with biases, no batch normalisation (the option has no effect), 20.48 M weights at width 1. The last
pooling of the original is left out and conv5 is dilated, which is why class maps take a square root: the authors'
compensation for the changed variance.

Layer names are the reference code's (and Caffe's): `conv4_3.weight` is the kernel of `conv4_3`. Maps: `conv4`
(conv4_3), `conv5` (conv5_3) and `conv5fc` (fc7), all after ReLU.
"""

import keras

from tfwsss import stack
from tfwsss.models.backbones import Options, Trunk, register
from tfwsss.models.layers import conv2d, max_pool, relu, round_channels
from tfwsss.normalization import CAFFE_VGG16

# stage: channels, number of convolutions, dilation, stride of the pooling after it (None: no pooling)
STAGES = {
    "1": (64, 2, 1, 2),
    "2": (128, 2, 1, 2),
    "3": (256, 3, 1, 2),
    "4": (512, 3, 1, 1),
    "5": (512, 3, 2, None),
}
FC_CHANNELS = 1024
# Field of view of fc6: the reference code's for its two networks, DeepLab-LargeFOV's for segmentation.
FC6_DILATION = {"classifier": 1, "affinitynet": 4, "segmenter": 12}
DROPOUT = 0.5
MAP_NAMES = {"conv4_3": "conv4", "conv5_3": "conv5"}
STEM = frozenset({"conv1_1", "conv1_2", "conv2_1", "conv2_2"})


@register("vgg16", normalization=CAFFE_VGG16, output_strides=(8,), cam_activation="sqrt")
def vgg16(options: Options) -> Trunk:
    """Build VGG16; maps conv4 (512 channels at width 1), conv5 (512), conv5fc (1024), all of stride 8."""
    inputs = keras.Input((None, None, 3), name="image")
    x = inputs
    activations = {}
    for stage, (channels, count, dilation, pool_stride) in STAGES.items():
        for name in (f"conv{stage}_{number}" for number in range(1, count + 1)):
            x = conv2d(x, round_channels(channels, options.width), 3, dilation=dilation, use_bias=True, name=name)
            x = activations[name] = relu(x, MAP_NAMES.get(name, f"{name}_relu"))
        if pool_stride is not None:
            x = max_pool(x, pool_stride, name=f"pool{stage}")
    channels = round_channels(FC_CHANNELS, options.width)
    x = conv2d(x, channels, 3, dilation=FC6_DILATION[options.network], use_bias=True, name="fc6")
    x = stack.SpatialDropout2D(DROPOUT, name="drop6")(relu(x, "fc6_relu"))
    x = relu(conv2d(x, channels, 1, use_bias=True, name="fc7"), "conv5fc")
    maps = {"conv4": activations["conv4_3"], "conv5": activations["conv5_3"], "conv5fc": x}
    return Trunk(inputs, maps, (8, 8, 8), low=activations["conv3_3"], stem=STEM)
