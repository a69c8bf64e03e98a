"""Dilated convolutions, which are traced in another form for conversion.

TensorFlow runs a dilated convolution as space-to-batch, dense convolution, batch-to-space. That is right everywhere,
but converted to ONNX each one becomes a dozen nodes of bookkeeping that no runtime fuses. For conversion it is one
operation with a `dilations` attribute, which TensorFlow itself should not run: on CPUs the depthwise operation or the
gradient is missing (without oneDNN), or the gradient of the depthwise one is silently wrong (TensorFlow 2.21 with oneDNN).
"""

import keras
import tensorflow as tf

from tfwsss.models.conversion import is_converting


def _padding(layer) -> list[list[int]]:
    # What "same" means, as numbers: ONNX Runtime refuses a dilated Conv with automatic padding.
    height, width = (rate * (size // 2) for rate, size in zip(layer.dilation_rate, layer.kernel_size, strict=True))
    return [[0, 0], [height, height], [width, width], [0, 0]]


@keras.saving.register_keras_serializable(package="tfwsss")
class DilatedConv2D(keras.layers.Conv2D):
    """Conv2D of stride 1 and "same" padding that heeds `conversion`."""

    def convolution_op(self, inputs, kernel):
        if not is_converting():
            return super().convolution_op(inputs, kernel)
        kernel = tf.cast(tf.convert_to_tensor(kernel), inputs.dtype)
        return tf.nn.conv2d(inputs, kernel, strides=1, padding=_padding(self), dilations=self.dilation_rate)


@keras.saving.register_keras_serializable(package="tfwsss")
class DilatedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """DepthwiseConv2D of stride 1, "same" padding and no bias that heeds `conversion`."""

    def call(self, inputs):
        if not is_converting():
            return super().call(inputs)
        kernel = self.depthwise_kernel if hasattr(self, "depthwise_kernel") else self.kernel  # Keras 2, Keras 3
        return tf.raw_ops.DepthwiseConv2dNative(
            input=inputs,
            filter=tf.cast(tf.convert_to_tensor(kernel), inputs.dtype),
            strides=[1, 1, 1, 1],
            padding="EXPLICIT",
            explicit_paddings=[side for axis in _padding(self) for side in axis],
            dilations=[1, *self.dilation_rate, 1],
        )
