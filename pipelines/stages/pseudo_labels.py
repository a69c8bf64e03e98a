"""Stage `pseudo_labels`: the random walk over the learned affinities, then an optional dense CRF (section 3.3 of the paper)."""

from __future__ import annotations

import numpy as np

from tfwsss.config import LabelCrf
from tfwsss.data.image import read_image
from tfwsss.pseudolabel import STRIDE, grid_size, pseudo_label, walk_input
from tfwsss.storage.artifacts import artifact_path, load_cam, load_walk, save_label, save_walk

from ..engine.context import Context
from ..engine.progress import progress_bar
from ..engine.stage import Stage
from .affinity_labels import used_alphas
from .refinement import map_photos, prepare_crf

BORDER = {"faithful": "faithful", "corrected": "full"}


def label_image(image_path, image_id: str, walks, folder, crf: LabelCrf | None, max_megapixels: float) -> None:
    """Walked scores to label PNG."""
    image = read_image(image_path, max_megapixels)
    # Always from the file, so that a label does not depend on whether its walk was computed before a restart.
    classes, _, background, foreground = load_walk(walks, image_id)
    save_label(folder, image_id, pseudo_label(classes, np.concatenate([background[:1], foreground]), image, crf))


def walker(context: Context):
    """Function image uint8, channels [C, h, w] -> walked channels."""
    import tensorflow as tf

    from tfwsss.affinity import pair_affinity
    from tfwsss.models import normalization
    from tfwsss.randomwalk import random_walk
    from tfwsss.weights import load_model

    from .train import weights_path

    config, settings = context.config, context.config.pseudo_labels
    normalize = normalization(config.affinitynet.model.backbone)
    model = load_model(weights_path(context.work, "affinitynet"))
    radius, border = config.affinitynet.radius, BORDER[config.switches.border_pairs]

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)], autograph=False)
    def affinity_of(image):
        return pair_affinity(model(image, training=False), radius, border)

    def walk(image, channels):
        height, width = image.shape[:2]
        rows, columns = grid_size(height, width)
        padded = np.zeros((1, rows * STRIDE, columns * STRIDE, 3), np.float32)
        padded[0, :height, :width] = normalize(image)
        walked = random_walk(
            affinity_of(padded),
            channels.transpose(1, 2, 0)[None],
            radius=radius,
            beta=settings.beta,
            steps=settings.steps,
            border=border,
            method=settings.method,
            tolerance=settings.tolerance,
        )
        return walked[0].numpy().transpose(2, 0, 1)

    return walk


def run(context: Context) -> dict[str, float]:
    from tfwsss.training.loop import make_deterministic

    config, settings = context.config, context.config.pseudo_labels
    dataset = context.dataset("train")
    walks, folder = context.folder("walk"), context.folder("pseudo_labels")
    make_deterministic(config.seed)
    alphas = (used_alphas(context.work).walk, *settings.more_alphas)
    todo = [sample for sample in dataset.samples if not artifact_path(folder, sample.id, ".png").is_file()]
    walk = walker(context) if todo else None
    walked = 0

    def arguments():
        nonlocal walked
        for sample in todo:
            if not artifact_path(walks, sample.id, ".npz").is_file():
                classes, cam = load_cam(context.work / "cams", sample.id)
                result = walk(dataset.read(sample), walk_input(cam, alphas))
                save_walk(walks, sample.id, classes, alphas, result[: len(alphas)], result[len(alphas) :])
                walked += 1
            yield sample.image, sample.id, walks, folder, settings.crf, dataset.max_megapixels

    if todo:
        prepare_crf(settings.crf)
    with progress_bar("pseudo_labels", len(todo), config.runtime.progress) as bar:
        for _ in map_photos(label_image, arguments(), config.runtime.workers, settings.crf):
            bar.advance()
    return {"images": len(dataset.samples), "walked": walked, "computed": len(todo)}


STAGE = Stage(
    name="pseudo_labels",
    run=run,
    tensorflow=True,
    needs=("cams", "affinity_labels", "affinitynet"),
    data=("train",),
    settings=("pseudo_labels", "switches.border_pairs"),
    code=(
        "tfwsss_pipelines.stages.pseudo_labels",
        "tfwsss.pseudolabel",
        "tfwsss.background",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
    outputs=("walk",),
)
