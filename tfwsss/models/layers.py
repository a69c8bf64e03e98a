"""Layers that every network shares: symmetric padding, strided convolution and pooling, bilinear resizing.

The weights this package imports were trained with symmetric padding ((k - 1) / 2 zeros on each side). TensorFlow's
"same" padding equals that for stride 1 only; for stride 2 on an even size it pads nothing at the top and left, which
shifts every map by half a cell. Hence the explicit padding here. The output size of a strided layer is ceil(n / 2).
"""

import keras
import tensorflow as tf

from tfwsss import stack
from tfwsss.models.conversion import is_converting
from tfwsss.models.dilation import DilatedConv2D, DilatedDepthwiseConv2D
from tfwsss.models.group_norm import GroupNormalization

BATCH_NORM_EPSILON = 1e-5
# Keras' 0.99 needs several hundred steps before the running statistics mean anything; short trainings from scratch
# would be evaluated with the initial ones.
BATCH_NORM_MOMENTUM = 0.9
CHANNELS_PER_GROUP = 8


class GlobalLogSumExpPooling2D(keras.layers.Layer):
    """A soft maximum of each channel: log(mean(exp(r x))) / r, [B, h, w, C] -> [B, C] float32.

    Between the mean (r near 0) and the maximum (r large) of Pinheiro & Collobert, "From image-level to pixel-level labeling with
    convolutional networks", CVPR 2015, equation 3. The gradient of a cell is its share of the sum, so that a large logit does not
    ask for a large object.
    """

    def __init__(self, sharpness: float, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.sharpness = sharpness

    def call(self, inputs):
        scaled = self.sharpness * tf.cast(inputs, tf.float32)
        cells = tf.cast(tf.shape(scaled)[1] * tf.shape(scaled)[2], tf.float32)
        return (tf.reduce_logsumexp(scaled, axis=(1, 2)) - tf.math.log(cells)) / self.sharpness


def logits_initializer():
    """Small, so that training starts from an undecided prediction."""
    return keras.initializers.RandomNormal(stddev=0.01)


def round_channels(channels: int, width: float) -> int:
    """`channels * width` rounded to the nearest multiple of 8, at least 8 (a whole group of GroupNormalization)."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def conv2d(
    x,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    dilation: int = 1,
    use_bias: bool = False,
    initializer="he_normal",
    bias: float = 0.0,
):
    """[B, h, w, c] -> [B, ceil(h / stride), ceil(w / stride), filters] with symmetric zero padding; odd kernels."""
    padding = "same"
    if stride > 1:
        padding = "valid"
        if kernel > 1:
            x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
        else:
            # The same as a strided 1x1 convolution, whose gradient crashes TensorFlow 2.21's oneDNN kernels on fewer
            # than 16 channels.
            x = keras.layers.MaxPooling2D(1, strides=stride, padding="valid", name=f"{name}_subsample")(x)
            stride = 1
    kind = DilatedConv2D if dilation > 1 else keras.layers.Conv2D
    return kind(
        filters,
        kernel,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        use_bias=use_bias,
        bias_initializer=keras.initializers.Constant(bias),
        kernel_initializer=initializer,
        name=name,
    )(x)


def depthwise_conv2d(x, dilation: int, *, name: str):
    """3x3 depthwise convolution of stride 1, [B, h, w, c] -> the same shape."""
    kind = DilatedDepthwiseConv2D if dilation > 1 else keras.layers.DepthwiseConv2D
    return kind(
        3, dilation_rate=dilation, padding="same", use_bias=False, depthwise_initializer="he_normal", name=name
    )(x)


def max_pool(x, stride: int, *, name: str):
    """3x3 maximum with padding 1, [B, h, w, c] -> [B, ceil(h / stride), ceil(w / stride), c]; x must be >= 0.

    Zero padding stands for the minus infinity of other libraries, hence the condition: pool after a ReLU.
    """
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=stride, padding="valid", name=name)(x)


def batch_norm(x, name: str):
    """Batch normalisation with epsilon 1e-5, the value the imported weights were trained with."""
    return stack.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)(x)


def group_norm(x, name: str):
    """Group normalisation, 8 channels a group, epsilon 1e-5; the channels must be a multiple of 8."""
    return GroupNormalization(x.shape[-1] // CHANNELS_PER_GROUP, epsilon=BATCH_NORM_EPSILON, name=name)(x)


def relu(x, name: str):
    return keras.layers.ReLU(name=name)(x)


@keras.saving.register_keras_serializable(package="tfwsss")
class Resize(keras.layers.Layer):
    """Bilinear resizing (half-pixel centres, no antialiasing) of one map to the grid of another.

    Inputs: a pair (map [B, h, w, c], reference [B, H, W, any]). Output: [B, ceil(H / stride), ceil(W / stride), c] in
    the layer's compute dtype. UpSampling2D and keras.ops.image.resize cannot be exported when height and width are
    unknown; tf.image.resize can, and equals PyTorch's interpolate(align_corners=False).
    """

    def __init__(self, stride: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, inputs):
        x, reference = inputs
        size = (tf.shape(reference)[1:3] + self.stride - 1) // self.stride
        if is_converting() and tuple(x.shape[1:3]) == (1, 1):  # pooled: runtimes interpolate between copies of one number
            resized = tf.broadcast_to(x, [tf.shape(x)[0], size[0], size[1], x.shape[-1]])
        else:
            resized = tf.image.resize(x, size, method="bilinear", antialias=False)
        resized.set_shape(self.compute_output_shape((x.shape, reference.shape)))
        return tf.cast(resized, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        height, width = (None if side is None else -(-side // self.stride) for side in reference[1:3])
        return (x[0], height, width, x[-1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
