"""The segmentation network that is trained on the pseudo labels and exported.

Heads:
    atrous: the two 3x3 convolutions of dilation 12 of the ResNet38 FCN (Wu et al. 2016), used by the PSA paper.
    deeplabv3plus: atrous spatial pyramid pooling and a decoder (Chen et al., ECCV 2018), separable convolutions.
    lraspp: two pointwise convolutions and a gate (Howard et al., ICCV 2019), for phones.
"""

from __future__ import annotations

import keras

from tfwsss.errors import ConfigError
from tfwsss.models import backbones, spec
from tfwsss.models.backbones import Options, Trunk
from tfwsss.models.classifier import check_num_classes
from tfwsss.models.deeplab import deeplabv3plus
from tfwsss.models.layers import Resize, conv2d, logits_initializer, relu, round_channels
from tfwsss.models.lraspp import lraspp

ATROUS_CHANNELS = 512
ATROUS_DILATION = 12
HEADS = ("auto", "atrous", "deeplabv3plus", "lraspp")


def _atrous(trunk: Trunk, options: Options, labels: int):
    x = conv2d(
        trunk.deepest,
        round_channels(ATROUS_CHANNELS, options.width),
        3,
        dilation=ATROUS_DILATION,
        use_bias=True,
        name="conv6a",
    )
    x = relu(x, "conv6a_relu")
    return conv2d(x, labels, 3, dilation=ATROUS_DILATION, use_bias=True, initializer=logits_initializer(), name="score")


def _deeplabv3plus(trunk: Trunk, options: Options, labels: int):
    x = deeplabv3plus(trunk, options)
    return conv2d(x, labels, 1, use_bias=True, initializer=logits_initializer(), name="score")


@spec.builder("segmenter")
def build_segmenter(
    backbone: str,
    num_classes: int,
    *,
    head: str = "auto",
    upsample: bool = True,
    width: float = 1.0,
    output_stride: int = 8,
    batch_norm: backbones.BatchNorm = "frozen",
    freeze: bool = True,
    dropout: backbones.BottleneckDropout = "spatial",
) -> tuple[keras.Model, set[str]]:
    """Build the segmentation network.

    Args:
        backbone: name in `tfwsss.models.BACKBONES`.
        num_classes: C, classes without background; the network has C + 1 outputs, 0 = background.
        head: "atrous" (logits at the output stride), "deeplabv3plus" (logits at stride 4), "lraspp" (logits
            at stride 8) or "auto": atrous for resnet38, deeplabv3plus for the others.
        upsample: resize the logits to the size of the image (bilinear).
        width, output_stride, batch_norm, freeze, dropout: see `tfwsss.models.backbones.Options`; `width` scales the
            channels of the head too.

    Returns:
        Model: image [B, H, W, 3] normalised float32 -> logits [B, H, W, C + 1] float32; the layer "logits" holds them
        at the head's own stride, which is also the output with upsample=False.

    Raises:
        ConfigError: an argument has a wrong value.
    """
    check_num_classes(num_classes)
    if head not in HEADS:
        raise ConfigError(f"head: found {head!r}, expected one of {', '.join(HEADS)}")
    chosen = head
    if head == "auto":
        chosen = "atrous" if backbone == "resnet38" else "deeplabv3plus"
    options = Options("segmenter", width, output_stride, batch_norm, freeze, dropout)
    trunk = backbones.build_trunk(backbone, options)
    backbone_layers = {layer.name for layer in keras.Model(trunk.inputs, [*trunk.maps.values(), trunk.low]).layers}
    x = {"atrous": _atrous, "deeplabv3plus": _deeplabv3plus, "lraspp": lraspp}[chosen](trunk, options, num_classes + 1)
    x = keras.layers.Activation("linear", dtype="float32", name="logits")(x)
    if upsample:
        x = Resize(dtype="float32", name="upsample")([x, trunk.inputs])
    model = keras.Model(trunk.inputs, x, name=f"{backbone}_segmenter")
    backbones.freeze(model, trunk, options)
    scratch = {layer.name for layer in model.layers if layer.weights and layer.name not in backbone_layers}
    return model, scratch
