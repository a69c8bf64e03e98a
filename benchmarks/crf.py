"""mIoU of different dense CRFs behind the random walk and behind the segmenter, on evaluation photos of a finished run.

    tfwsss run CONFIG --work-dir DIR --set evaluate.cams=true
    python benchmarks/crf.py CONFIG --work-dir DIR --photos 50

Pass the same --set options as to the run. Settings are chosen on these photos, so a score on them is no longer one on
unseen photos. Kernels are written appearance width / grey levels / weight, smoothness width / weight.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfwsss.config import Crf, LabelCrf
from tfwsss.config.files import load_config
from tfwsss.crf import dense_crf
from tfwsss.metrics import ConfusionMatrix
from tfwsss.processes import worker_count
from tfwsss.pseudolabel import from_grid, pseudo_label
from tfwsss.storage.artifacts import load_walk
from tfwsss_pipelines.executors.threads import run_images
from tfwsss_pipelines.executors.work import Work

PSA = {"bilateral_sxy": 80, "bilateral_srgb": 13, "bilateral_compat": 10}  # as for the affinity labels
IRN = {"bilateral_sxy": 50, "bilateral_srgb": 5, "bilateral_compat": 10}
DEEPLAB = {"bilateral_sxy": 67, "bilateral_srgb": 3, "bilateral_compat": 4, "gaussian_sxy": 1}
KERNELS = {"80/13/10, 3/3": PSA, "50/5/10, 3/3": IRN, "67/3/4, 1/3": DEEPLAB}
CONFIDENCES = (0.7, 0.9)


def walk_labels(image, classes, walked) -> dict[str, np.ndarray]:
    """Label map of one photo by setting: without CRF, CRF on scores, CRF on labels of fixed confidence."""
    labels = {"no CRF": pseudo_label(classes, walked, image, None)}
    names = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    scores = from_grid(walked, *image.shape[:2]).transpose(1, 2, 0)
    for name, kernels in KERNELS.items():
        labels[f"scores, {name}"] = names[dense_crf(image, scores, **Crf(**kernels).model_dump(), normalize=True).argmax(axis=2)]
        for confidence in CONFIDENCES:
            labels[f"labels {confidence}, {name}"] = pseudo_label(classes, walked, image, LabelCrf(**kernels, confidence=confidence))
    return labels


def segmenter_labels(image, scores) -> dict[str, np.ndarray]:
    """Label map of one photo by setting, from the segmenter's scores [H, W, C+1]."""
    labels = {"no CRF": scores.argmax(axis=2)}
    for name, kernels in KERNELS.items():
        labels[f"scores, {name}"] = dense_crf(image, scores, **Crf(**kernels).model_dump()).argmax(axis=2)
    return labels


def _score(function, masks, arguments, labels: int) -> dict[str, ConfusionMatrix]:
    matrices: dict[str, ConfusionMatrix] = {}
    work: Work = Work(lambda one: one, lambda one, _: function(*one))
    for mask, found in zip(masks, run_images(arguments, work, workers=worker_count(0)), strict=True):
        for name, label in found.items():
            matrices.setdefault(name, ConfusionMatrix(labels)).update(mask, label)
    return matrices


def _print(title: str, photos: int, matrices: dict[str, ConfusionMatrix]) -> None:
    print(f"\n| {title}, {photos} photos | mIoU |\n|---|---|")
    for name, matrix in matrices.items():
        print(f"| {name} | {100 * matrix.miou():.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--photos", type=int, default=50, help="evenly spaced among those with a mask (default: %(default)s)")
    arguments = parser.parse_args()
    from pathlib import Path

    import tensorflow as tf

    from tfwsss.data import load_split
    from tfwsss.export.inference import Inference
    from tfwsss.models import normalization
    from tfwsss.weights import load_model
    from tfwsss_pipelines.engine.context import weights_path
    from tfwsss_pipelines.stages.val_cams import WALKS

    config, work = load_config(arguments.config, arguments.set), Path(arguments.work_dir)
    dataset = load_split(config.data, "val", work)
    if dataset is None:
        raise SystemExit(f"{arguments.config}: no evaluation photos")
    masked = [sample for sample in dataset.samples if dataset.mask(sample) is not None]
    chosen = [masked[index] for index in np.unique(np.linspace(0, len(masked) - 1, min(arguments.photos, len(masked))).round().astype(int))]
    masks, count = [dataset.mask(sample) for sample in chosen], dataset.num_classes + 1

    def walks():
        for sample in chosen:
            classes, walked = load_walk(work / WALKS, sample.id)
            yield dataset.read(sample), classes, walked

    _print("walk", len(chosen), _score(walk_labels, masks, walks(), count))

    normalize = normalization(config.segmenter.model.backbone)
    inference = Inference(load_model(weights_path(work, "segmenter")), normalize, scales=config.evaluate.scales, flip=config.evaluate.flip)
    scores = tf.function(inference.scores, input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])

    def predictions():
        for sample in chosen:
            image = dataset.read(sample)
            yield image, scores(image[None])[0].numpy()

    _print("segmenter, multi-scale", len(chosen), _score(segmenter_labels, masks, predictions(), count))


if __name__ == "__main__":
    main()
