"""Group normalisation (Wu & He, ECCV 2018), with forms of its own for training and for conversion."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfwsss.models.conversion import has_channels_last, is_converting


@keras.saving.register_keras_serializable(package="tfwsss")
class GroupNormalization(keras.layers.GroupNormalization):
    """Keras' layer over the last axis of [B, h, w, c], faster, that heeds `conversion`.

    Keras reduces a five-axis tensor over three axes and scales it in the same shape, which takes three times as long, with its
    gradient, as sums by matrix product and one multiplication and addition per channel. Runtimes find no fast path for such
    reductions and broadcasts either, and those that keep channels first transpose for it: three quarters of a quantised
    network's time can go there. For conversion the sums run over one contiguous axis or, with channels last, are a matrix product,
    and the result is one multiplication and one addition per channel.
    """

    def call(self, inputs):
        if not is_converting():
            outputs = _normalised(self.groups, self.epsilon)(
                tf.cast(inputs, tf.float32),
                tf.cast(tf.convert_to_tensor(self.gamma), tf.float32),
                tf.cast(tf.convert_to_tensor(self.beta), tf.float32),
            )
            return tf.cast(outputs, self.compute_dtype)
        x, channels = tf.cast(inputs, tf.float32), inputs.shape[-1]
        per_channel = [1, self.groups, channels // self.groups]
        if has_channels_last():
            mean, variance = self._moments(x)
        else:
            x = tf.transpose(x, [0, 3, 1, 2])
            groups = tf.reshape(x, [tf.shape(x)[0], self.groups, -1])
            mean = tf.reduce_mean(groups, axis=2, keepdims=True)
            variance = tf.reduce_mean(tf.square(groups - mean), axis=2, keepdims=True)
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.reshape(self.gamma, per_channel)
        shift = tf.reshape(self.beta, per_channel) - mean * scale
        shape = [-1, 1, 1, channels] if has_channels_last() else [-1, channels, 1, 1]
        x = x * tf.reshape(scale, shape) + tf.reshape(shift, shape)
        return tf.cast(x if has_channels_last() else tf.transpose(x, [0, 2, 3, 1]), self.compute_dtype)

    def _moments(self, x):
        """float32 [B, h, w, c] -> mean and variance of the groups, [B, groups, 1] each.

        The variance is the mean square less the square of the mean: with channels last a subtraction at every place would
        cost as much as a convolution. What float32 loses by it is far below the steps of the 8-bit maps around it.
        """
        channels = x.shape[-1]
        places = tf.reshape(x, [tf.shape(x)[0], -1, channels])
        count = tf.shape(places)[1]
        average = tf.fill([1, count], 1.0 / tf.cast(count, tf.float32))

        def of_groups(values):
            per_channel = tf.reshape(tf.matmul(average, values), [-1, self.groups, channels // self.groups])
            return tf.reduce_mean(per_channel, axis=2, keepdims=True)

        mean = of_groups(places)
        return mean, tf.maximum(of_groups(tf.square(places)) - tf.square(mean), 0.0)


def _normalised(groups: int, epsilon: float):
    """Function (x float32 [B, h, w, c], gamma [c], beta [c]) -> normalised x, with its gradient written out.

    With x^ = (x - mean) / sigma and <.> the mean over a group, dx = (gamma dy - <gamma dy> - x^ <gamma dy x^>) / sigma, of which
    only what differs between places is computed at every place. The variance is the mean square less the square of the mean.
    """

    @tf.custom_gradient
    def normalised(x, gamma, beta):
        channels = x.shape[-1]
        batch, height, width, _ = tf.unstack(tf.shape(x))
        places = tf.reshape(x, [batch, height * width, channels])
        ones = tf.ones([batch, 1, height * width])
        count = tf.cast(height * width, tf.float32) * (channels // groups)

        def of_group(sums):  # [B, 1, c] sums over places -> the group's mean, for each of its channels
            totals = tf.reduce_sum(tf.reshape(sums, [batch, 1, groups, channels // groups]), axis=-1, keepdims=True)
            return tf.reshape(tf.repeat(totals, channels // groups, axis=-1), [batch, 1, channels]) / count

        mean = of_group(tf.matmul(ones, places))
        variance = tf.maximum(of_group(tf.matmul(ones, tf.square(places))) - tf.square(mean), 0.0)
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = inverse * gamma
        outputs = tf.reshape(places * scale + (beta - mean * scale), tf.shape(x))

        def gradient(upstream):
            upstream = tf.reshape(upstream, [batch, height * width, channels])
            sums = tf.matmul(ones, upstream)
            products = (tf.matmul(ones, upstream * places) - mean * sums) * inverse
            slope = -inverse * inverse * of_group(products * gamma)
            shift = -inverse * of_group(sums * gamma) - slope * mean
            of_x = tf.reshape(upstream * scale + (places * slope + shift), tf.shape(x))
            return of_x, tf.reduce_sum(products, axis=[0, 1]), tf.reduce_sum(sums, axis=[0, 1])

        return outputs, gradient

    return normalised
