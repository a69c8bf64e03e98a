"""Seven photos that show their own label maps, and the three pipelines on them with small settings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfwsss import config
from tfwsss.data import inputs
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.label_sources import LabelFolder
from tfwsss.normalization import TORCH, Normalization
from tfwsss.storage.artifacts import save_label, save_scores

IDENTITY = Normalization(False, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZES = [(90, 120), (100, 70), (40, 150), (30, 41), (130, 130), (72, 96), (128, 50)]
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


@dataclass(frozen=True)
class Photos:
    """A data set, its label folder, and its epochs.

    Photo i has tag i and shows label L as the grey level 10 + 20 * L: never 0, so that a zero pixel is canvas.
    """

    dataset: Dataset
    labels: Path

    @classmethod
    def in_folder(cls, root) -> "Photos":
        names = [f"set {index % 2}/{index}" for index in range(len(SIZES))]
        samples = [Sample(name, Path(root) / f"{name}.png", (index,)) for index, name in enumerate(names)]
        return cls(Dataset(CLASSES, tuple(samples)), Path(root) / "labels")

    def only(self, samples) -> "Photos":
        return Photos(Dataset(CLASSES, tuple(samples)), self.labels)

    def classifier(self, normalization=TORCH, seed=7, epoch=0, part=slice(None), **changes):
        settings = config.Classifier(**{"crop": 64, "batch_size": 2, "resize_long": (48, 96)} | changes)
        return inputs.classifier_batches(
            self.dataset, settings, normalization, filter=BILINEAR, seed=seed, epoch=epoch, part=part
        )

    def affinity(self, normalization=IDENTITY, canvas="mean", seed=7, epoch=0, part=slice(None), **changes):
        settings = config.AffinityNet(**{"crop": 72, "batch_size": 3, "color_jitter": False} | changes)
        return inputs.affinity_batches(
            self.dataset, LabelFolder(self.labels), settings, normalization, canvas=canvas, seed=seed, epoch=epoch, part=part
        )

    def segmenter(self, normalization=IDENTITY, filter=NEAREST, seed=7, epoch=0, part=slice(None), **changes):
        settings = config.Segmenter(**{"crop": 64, "batch_size": 2, "color_jitter": False} | changes)
        return inputs.segmenter_batches(
            self.dataset, LabelFolder(self.labels), settings, normalization, filter=filter, seed=seed, epoch=epoch, part=part
        )

    def collect(self, pipeline, threads=0, **arguments):
        """All samples of an epoch of the named pipeline, one array per name; `threads` 0: TensorFlow's own."""
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        parts = list(getattr(self, pipeline)(**arguments).with_options(options).as_numpy_iterator())
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    result = Photos.in_folder(root)
    rng = np.random.default_rng(0)
    for sample, (height, width) in zip(result.dataset.samples, SIZES, strict=True):
        coarse = rng.integers(0, 8, (height // 6 + 1, width // 5 + 1), dtype=np.uint8)
        label = np.kron(coarse, np.ones((6, 5), np.uint8))[:height, :width]
        sample.image.parent.mkdir(exist_ok=True)
        Image.fromarray(np.repeat((10 + 20 * label)[..., None], 3, axis=-1)).save(sample.image)
        save_label(result.labels, sample.id, label)
        one_hot = np.stack([label == value for value in range(8)])
        save_scores(result.labels, sample.id, np.arange(7), one_hot, one_hot)
    return result
