"""LR-ASPP, the segmentation head of MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4).

One pointwise convolution of the deepest map, weighted channel by channel by what the whole photo shows, and a skip connection
from the stride-8 map. It has a tenth of DeepLabV3+'s operations: for phones. The whole photo is averaged, where the paper
averages windows of 49x49 cells, so that every size of photo will do. Normalisation as in `tfwsss.models.deeplab`.
"""

import keras

from tfwsss.models.backbones import Options, Trunk
from tfwsss.models.deeplab import normalised
from tfwsss.models.layers import Resize, conv2d, logits_initializer, round_channels

CHANNELS = 128


def lraspp(trunk: Trunk, options: Options, labels: int):
    """Logits [B, ceil(H / 8), ceil(W / 8), labels] on top of a trunk."""
    channels = round_channels(CHANNELS, options.width)
    low = next(iter(trunk.maps.values()))
    x = normalised(conv2d(trunk.deepest, channels, 1, name="lraspp_deep"), "lraspp_deep", options)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="lraspp_pool")(trunk.deepest)
    gate = keras.layers.Activation("sigmoid", name="lraspp_gate")(conv2d(gate, channels, 1, name="lraspp_gate_conv"))
    x = keras.layers.Multiply(name="lraspp_gated")([x, gate])
    x = Resize(name="lraspp_resize")([x, low])
    deep = conv2d(x, labels, 1, use_bias=True, initializer=logits_initializer(), name="score_deep")
    shallow = conv2d(low, labels, 1, use_bias=True, initializer=logits_initializer(), name="score_low")
    return keras.layers.Add(name="score")([deep, shallow])
