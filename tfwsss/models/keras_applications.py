"""ResNet50, MobileNet and MobileNetV2 of keras.applications, with strides turned into dilation.

The graph is keras.applications' own, cloned layer by layer with another configuration, so layer names and weight
shapes are the published ones. Changes:

* Past the wanted output stride, strided convolutions get stride 1 and the ones after them are dilated: the features
  at the places a strided network would have looked at stay what they were.
* MobileNets pad (0, 1) before strided convolutions, which loses the last row and column of odd sizes. Here every
  convolution pads "same": equal on even sizes, and a map has ceil(n / stride) cells for every n.
* `width` is alpha for the MobileNets; for ResNet50 it multiplies every convolution's channels.
* With batch_norm="train" the running statistics move with momentum 0.9; the published 0.999 of the MobileNets needs
  thousands of steps to forget its initial values.

`freeze` fixes the stem and everything else up to the stride-4 map. Maps: `stage3`, `stage4`, `stage5`, the last maps
of (nominal) stride 8, 16 and 32, none coarser than the output stride.
"""

import math

import keras

from tfwsss import stack
from tfwsss.models.backbones import Options, Trunk, register
from tfwsss.models.dilation import DilatedConv2D, DilatedDepthwiseConv2D
from tfwsss.models.layers import BATCH_NORM_MOMENTUM, round_channels
from tfwsss.normalization import CAFFE_KERAS, SYMMETRIC

OUTPUT_STRIDES = (8, 16, 32)
# Side of the image on which the strides of the original are measured: its maps' sides are powers of two.
PROBE = 256


def _stride(tensor) -> int:
    # A padded map is a few cells larger than a power of two, hence the rounding of the exponent.
    return 2 ** round(math.log2(PROBE / tensor.shape[1]))


def _configured(layer, options: Options, *, width: float, pad_same: bool):
    """A copy of `layer` (without weights) for the wanted output stride and width."""
    config = layer.get_config()
    kind = type(layer)
    if pad_same and isinstance(layer, keras.layers.ZeroPadding2D):
        return keras.layers.Activation("linear", name=layer.name)
    if isinstance(layer, keras.layers.BatchNormalization):
        kind = stack.BatchNormalization
        if options.batch_norm == "train":
            config["momentum"] = BATCH_NORM_MOMENTUM
    if isinstance(layer, keras.layers.Conv2D):  # DepthwiseConv2D is one in Keras 2, but not in Keras 3
        if "filters" in config:
            config["filters"] = config["filters"] if width == 1 else round_channels(config["filters"], width)
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        if pad_same:
            config["padding"] = "same"
        if _stride(layer.output) > options.output_stride:
            config["strides"] = (1, 1)
        if max(config["kernel_size"]) > 1:
            dilation = max(1, _stride(layer.input) // options.output_stride)
            config["dilation_rate"] = (dilation, dilation)
            if dilation > 1:
                kind = DilatedDepthwiseConv2D if isinstance(layer, keras.layers.DepthwiseConv2D) else DilatedConv2D
    return kind.from_config(config)


def _trunk(
    published: keras.Model,
    options: Options,
    *,
    low: str,
    last: tuple[str, str, str],
    stem_end: str,
    width=1.0,
    pad_same=True,
) -> Trunk:
    """Clone `published` (built for PROBE x PROBE) for any image size; map names are layer names of it."""
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.models.clone_model(
        published,
        input_tensors=inputs,
        clone_function=lambda layer: _configured(layer, options, width=width, pad_same=pad_same),
    )
    names = [layer.name for layer in model.layers]
    stem = frozenset(names[: names.index(stem_end) + 1])
    maps = {f"stage{number}": model.get_layer(name).output for number, name in zip((3, 4, 5), last, strict=True)}
    strides = tuple(min(_stride(published.get_layer(name).output), options.output_stride) for name in last)
    return Trunk(model.inputs[0], maps, strides, low=model.get_layer(low).output, stem=stem)


@register("resnet50", normalization=CAFFE_KERAS, output_strides=OUTPUT_STRIDES)
def resnet50(options: Options) -> Trunk:
    """Build ResNet50 (He et al. 2016); maps of 512, 1024 and 2048 channels at width 1."""
    published = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(PROBE, PROBE, 3))
    last = ("conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
    low = "conv2_block3_out"
    return _trunk(published, options, low=low, last=last, stem_end=low, width=options.width, pad_same=False)


@register("mobilenet", normalization=SYMMETRIC, output_strides=OUTPUT_STRIDES)
def mobilenet(options: Options) -> Trunk:
    """Build MobileNet (Howard et al. 2017); maps of 256, 512 and 1024 channels at width 1."""
    published = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(PROBE, PROBE, 3), alpha=options.width
    )
    last = ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")
    return _trunk(published, options, low="conv_pw_3_relu", last=last, stem_end="conv_pw_3_relu")


@register("mobilenetv2", normalization=SYMMETRIC, output_strides=OUTPUT_STRIDES)
def mobilenetv2(options: Options) -> Trunk:
    """Build MobileNetV2 (Sandler et al. 2018); maps of 192, 576 and 1280 channels at width 1.

    The first two are the expanded maps in front of the strided convolutions, richer than the 32 and 96 channels of
    the linear bottlenecks.
    """
    published = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(PROBE, PROBE, 3), alpha=options.width
    )
    last = ("block_6_expand_relu", "block_13_expand_relu", "out_relu")
    return _trunk(published, options, low="block_3_expand_relu", last=last, stem_end="block_2_add")
