"""Input normalisation of the backbones: from uint8 RGB to what the network was trained on."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Normalization:
    """``(x * scale - mean) / std`` per channel, after optional reordering to BGR.

    `mean` and `std` are in the network's channel order and in units of the scaled image.
    """

    bgr: bool
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image):
        """[..., 3] RGB in 0..255 (numpy array of any dtype, or a float32 tf.Tensor) -> float32 of the same shape."""
        if isinstance(image, np.ndarray):
            image = image.astype(np.float32)
        if self.bgr:
            image = image[..., ::-1]
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (image * np.float32(self.scale) - mean) / std


TORCH = Normalization(False, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # resnet38
CAFFE_VGG16 = Normalization(True, 1.0, (104.008, 116.669, 122.675), (1.0, 1.0, 1.0))  # DeepLab vgg16_20M
CAFFE_KERAS = Normalization(True, 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))  # keras.applications resnet50
EFFICIENTNET_LITE = Normalization(False, 1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
SYMMETRIC = Normalization(False, 1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))  # keras.applications mobilenets
