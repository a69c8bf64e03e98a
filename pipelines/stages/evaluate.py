"""Stage `evaluate`: the segmenter against the masks, where there are masks, and the table of all scores.

Its label maps are kept below evaluate/, so that a killed run goes on and every score can be recomputed from files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfwsss.crf import dense_crf
from tfwsss.data.dataset import Sample
from tfwsss.report.table import ScoreRow
from tfwsss.storage.artifacts import keep_label

from ..engine.context import Context, weights_path
from ..engine.progress import console
from ..engine.stage import Stage
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.networks import network_on
from ..labelling.photos import Files, batch_size, each_photo, filled, unfinished
from ..labelling.refinement import prepare_crf
from .scoring import load_table, save_table, score_folders, score_row

SINGLE, MULTI, MULTI_CRF = "segmenter", "segmenter_multiscale", "segmenter_multiscale_crf"


class Segmented(NamedTuple):
    """A photo [H, W, 3] uint8 and the segmenter's scores [H, W, C+1]: of the photo as it is, and over all scales."""

    image: np.ndarray
    single: np.ndarray
    multi: np.ndarray


def _segmenter_on(name: str, context: Context, batch: int):
    """Function [photo of one size] -> [Segmented]."""
    import tensorflow as tf

    from tfwsss.export.inference import Inference
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config, settings = context.config, context.config.evaluate
    normalize = normalization(config.segmenter.model.backbone)
    with tf.device(name):
        model = load_model(weights_path(context.work, "segmenter"))
        single, multi = Inference(model, normalize), Inference(model, normalize, scales=settings.scales, flip=settings.flip)
    network = network_on(name, config.runtime, lambda photos: {"single": single.scores(photos), "multi": multi.scores(photos)})

    def compute(photos: list[np.ndarray]) -> list[Segmented]:
        found = network(filled(photos, batch))
        return [Segmented(*one) for one in zip(photos, np.asarray(found["single"]), np.asarray(found["multi"]), strict=False)]

    return compute


def _kinds(context: Context) -> dict[str, str]:
    """{name of a row: folder below evaluate/}; that of the last one is written last."""
    kinds = {"segmenter": SINGLE, "segmenter, multi-scale": MULTI}
    if context.config.evaluate.crf is not None:
        kinds["segmenter, multi-scale + CRF"] = MULTI_CRF
    return kinds


def segment_photos(context: Context) -> dict[str, float]:
    """Label maps of the segmenter on every evaluation photo."""
    from tfwsss.training.loop import make_deterministic

    dataset = context.scored_dataset("val")
    if dataset is None or not dataset.samples:
        return {}
    make_deterministic(context.config.seed)
    last = list(_kinds(context).values())[-1]
    files = Files(context.folder(f"evaluate/{last}"), ".png")
    todo = unfinished(context, dataset.samples, files)
    if todo:
        prepare_crf(context.config.evaluate.crf)
    for _ in each_photo(context, "segmenter on the evaluation photos", todo, _segmenting, network=True, files=files):
        pass
    return {"segmented": len(todo)}


def _segmenting(context: Context, timing: Timing) -> Work[Sample, np.ndarray, Segmented, None]:
    dataset, settings, batch = context.dataset("val"), context.config.evaluate, batch_size(context)
    assert dataset is not None
    folders = {kind: context.folder(f"evaluate/{kind}") for kind in _kinds(context).values()}

    def finish(sample: Sample, photo: Segmented) -> None:
        labels = {SINGLE: photo.single.argmax(axis=2), MULTI: photo.multi.argmax(axis=2)}
        if settings.crf is not None:
            with timing.measure("CRF"):
                labels[MULTI_CRF] = dense_crf(photo.image, photo.multi, **settings.crf.model_dump()).argmax(axis=2)
        with timing.measure("writing"):
            for kind, label in labels.items():  # the last one says that the photo is done
                keep_label(folders[kind], sample.id, label)

    return Work(dataset.read, finish, lambda name: _segmenter_on(name, context, batch), lambda photo: photo.shape, batch)


def _rows(context: Context) -> list[ScoreRow]:
    segment_photos(context)
    dataset = context.scored_dataset("val")
    if dataset is None or not dataset.samples:
        return []
    folders = {name: context.work / "evaluate" / kind for name, kind in _kinds(context).items()}
    matrices, masked = score_folders(context, "scores of the segmenter", "val", dataset.samples, folders)
    if not masked:
        console.print("  no masks for the evaluation photos: the segmenter is not scored")
        return []
    return [score_row(name, "val", matrix, masked, dataset.classes) for name, matrix in matrices.items()]


def run(context: Context) -> dict[str, float]:
    learnt_from_masks = context.config.segmenter.labels == "masks"  # then there are no other labels to score
    rows = [] if learnt_from_masks else list(load_table(context.work, "label_scores").rows)
    return save_table(context, "evaluate", rows + _rows(context))


STAGE = Stage(
    name="evaluate",
    run=run,
    photos=segment_photos,
    tensorflow=True,
    needs=("label_scores", "segmenter"),
    data=("val", "val_masks"),
    settings=("evaluate",),
    code=(
        "tfwsss_pipelines.stages.evaluate",
        "tfwsss_pipelines.stages.scoring",
        "tfwsss_pipelines.labelling.networks",
        "tfwsss.metrics",
        "tfwsss.export.inference",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
)
