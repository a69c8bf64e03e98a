"""DeepLabV3+ (Chen et al., "Encoder-Decoder with Atrous Separable Convolution", ECCV 2018): ASPP and decoder.

Normalisation follows the backbone's batch_norm mode. "train": batch normalisation. "frozen": group normalisation,
because the layers are new: a frozen batch normalisation would normalise with its initial statistics, that is not at
all, and a trained one would contradict the mode, which is chosen where batches are too small for batch statistics.
"""

import keras

from tfwsss import stack
from tfwsss.models.backbones import Options, Trunk
from tfwsss.models.layers import Resize, batch_norm, conv2d, depthwise_conv2d, group_norm, relu, round_channels

CHANNELS = 256
LOW_LEVEL_CHANNELS = 48
# The same field of view in pixels at every output stride.
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
DROPOUT = 0.1


def normalised(x, name: str, options: Options):
    """Normalisation of a new layer, by the backbone's batch_norm mode, and ReLU."""
    normalise = batch_norm if options.batch_norm == "train" else group_norm
    return relu(normalise(x, f"{name}_norm"), f"{name}_relu")


def _separable(x, channels: int, name: str, options: Options, dilation: int = 1):
    x = depthwise_conv2d(x, dilation, name=f"{name}_depthwise")
    x = conv2d(x, channels, 1, name=f"{name}_pointwise")
    return normalised(x, name, options)


def deeplabv3plus(trunk: Trunk, options: Options):
    """Decoder output [B, ceil(H / 4), ceil(W / 4), 256 * width] on top of a trunk."""
    channels = round_channels(CHANNELS, options.width)
    x = trunk.deepest
    branches = [normalised(conv2d(x, channels, 1, name="aspp_0"), "aspp_0", options)]
    for number, rate in enumerate(RATES[options.output_stride], start=1):
        branches.append(_separable(x, channels, f"aspp_{number}", options, rate))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool")(x)
    pooled = normalised(conv2d(pooled, channels, 1, name="aspp_pool_conv"), "aspp_pool_conv", options)
    branches.append(Resize(name="aspp_pool_resize")([pooled, x]))
    x = keras.layers.Concatenate(name="aspp")(branches)
    x = normalised(conv2d(x, channels, 1, name="aspp_project"), "aspp_project", options)
    x = stack.Dropout(DROPOUT, name="aspp_dropout")(x)

    low = conv2d(trunk.low, round_channels(LOW_LEVEL_CHANNELS, options.width), 1, name="decoder_low")
    low = normalised(low, "decoder_low", options)
    x = keras.layers.Concatenate(name="decoder")([Resize(name="decoder_resize")([x, low]), low])
    x = _separable(x, channels, "decoder_1", options)
    return _separable(x, channels, "decoder_2", options)
