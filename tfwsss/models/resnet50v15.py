"""ResNet50 in the form PyTorch users know ("v1.5"): torchvision's, and that of IRN's classifier.

He et al. (2016) put the stride of a stage into its first 1x1 convolution, as keras.applications does (`resnet50`);
torchvision and everything trained with it put it into the 3x3 convolution behind. The arrays have the same shapes, so
weights of one form load into the other and give another network: they are two backbones here.

Layer names are the state dict's keys with "_" for ".": `layer2.0.downsample.1.running_mean` is the moving mean of layer
`layer2_0_downsample_1`. Maps: `stage3`, `stage4`, `stage5`, the outputs of layer2, layer3 and layer4.
"""

from __future__ import annotations

import keras

from tfwsss.models.backbones import Options, Trunk, register
from tfwsss.models.layers import batch_norm, conv2d, max_pool, relu, round_channels
from tfwsss.normalization import TORCH

# stage: channels of the inner convolutions (the outer have four times as many), number of blocks
STAGES = {"layer1": (64, 3), "layer2": (128, 4), "layer3": (256, 6), "layer4": (512, 3)}
EXPANSION = 4
# output stride: strides and dilations of the four stages. A stage's first block has the dilation of the stage before,
# so that the dilated network sees what the strided one saw.
DILATED = {
    8: ((1, 2, 1, 1), (1, 1, 2, 4)),
    16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    32: ((1, 2, 2, 2), (1, 1, 1, 1)),
}
IRN = ((1, 2, 2, 1), (1, 1, 1, 1))


def _convolution(x, channels, kernel, name, normalisation, **options):
    return batch_norm(conv2d(x, channels, kernel, name=name, **options), normalisation)


def _block(x, name, channels, stride, dilation):
    shortcut = x
    if stride > 1 or x.shape[-1] != channels * EXPANSION:
        shortcut = _convolution(
            x, channels * EXPANSION, 1, f"{name}_downsample_0", f"{name}_downsample_1", stride=stride
        )
    y = relu(_convolution(x, channels, 1, f"{name}_conv1", f"{name}_bn1"), f"{name}_relu1")
    y = _convolution(y, channels, 3, f"{name}_conv2", f"{name}_bn2", stride=stride, dilation=dilation)
    y = relu(y, f"{name}_relu2")
    y = _convolution(y, channels * EXPANSION, 1, f"{name}_conv3", f"{name}_bn3")
    return relu(keras.layers.Add(name=f"{name}_add")([shortcut, y]), f"{name}_out")


def _trunk(options: Options, strides, dilations, fixed: tuple[str, ...]) -> Trunk:
    """`fixed`: how the names of the layers begin that `freeze` keeps fixed."""
    inputs = keras.Input((None, None, 3), name="image")
    x = _convolution(inputs, round_channels(64, options.width), 7, "conv1", "bn1", stride=2)
    x = max_pool(relu(x, "relu"), 2, name="maxpool")
    outputs, cells, before = {}, {}, 1
    pixels = 4
    for (stage, (channels, count)), stride, dilation in zip(STAGES.items(), strides, dilations, strict=True):
        for number in range(count):
            first = number == 0
            x = _block(
                x,
                f"{stage}_{number}",
                round_channels(channels, options.width),
                stride if first else 1,
                before if first else dilation,
            )
        before, pixels = dilation, pixels * stride
        outputs[stage], cells[stage] = x, pixels
    maps = {f"stage{number}": outputs[f"layer{number - 1}"] for number in (3, 4, 5)}
    names = (layer.name for layer in keras.Model(inputs, x).layers)
    stem = frozenset(name for name in names if name.startswith(fixed))
    return Trunk(inputs, maps, tuple(cells[f"layer{n}"] for n in (2, 3, 4)), low=outputs["layer1"], stem=stem)


@register("resnet50v15", normalization=TORCH, output_strides=tuple(DILATED))
def resnet50v15(options: Options) -> Trunk:
    """Build torchvision's ResNet50; maps of 512, 1024 and 2048 channels at width 1.

    `freeze` fixes everything up to the stride-4 map, as for the other ResNet50.
    """
    return _trunk(options, *DILATED[options.output_stride], fixed=("conv1", "bn1", "layer1_"))


@register("resnet50irn", normalization=TORCH, output_strides=(16,))
def resnet50irn(options: Options) -> Trunk:
    """Build the ResNet50 of IRN's classifier (Ahn, Cho & Kwak, CVPR 2019): no stride in the last stage, no dilation.

    It is not the dilated network of output stride 16: its last stage was trained to see half as far. `freeze` fixes
    everything up to the stride-8 map, as the reference code does.
    """
    return _trunk(options, *IRN, fixed=("conv1", "bn1", "layer1_", "layer2_"))
