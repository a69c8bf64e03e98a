"""tfwsss: from tagged photos to a deployed segmentation model, in TensorFlow/Keras.

The package root imports nothing heavy, so that worker processes (dense CRF, image checks) start fast and
without TensorFlow. Import what you need from its module: ``from tfwsss.randomwalk import random_walk``.
"""

__version__ = "0.1.0"
