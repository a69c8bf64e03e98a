"""Stage `pseudo_labels`: the random walk over the learned affinities, then an optional dense CRF (section 3.3 of the paper).

label_votes/plain, label_votes/normalised    labels of the walked maps and of the normalised ones (tfwsss.tag_consistency)
pseudo_labels/<id>.png                       what both say with switches.label_tags "corrected", the plain one with "faithful"
pseudo_labels/left_out.csv                   photos no segmenter is trained on, with the reason
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.affinity_labels import used_alphas
from pipelines.context import Context
from pipelines.left_out import LeftOut, write_left_out
from pipelines.progress import console, progress_bar
from pipelines.stage import Stage
from tfwsss.artifacts import IGNORE, artifact_path, load_cam, load_label, load_walk, save_label, save_walk
from tfwsss.config import LabelCrf
from tfwsss.data.image import read_image
from tfwsss.processes import map_in_processes, worker_count
from tfwsss.pseudolabel import STRIDE, grid_size, pseudo_label, walk_input
from tfwsss.tag_consistency import agreed_label, missing, normalized

BORDER = {"faithful": "faithful", "corrected": "full"}
PLAIN, NORMALISED = "label_votes/plain", "label_votes/normalised"


def _vote(folder: Path, image_id: str, *arguments) -> np.ndarray:
    """`pseudo_label` of the arguments, kept in `folder`; from there where a killed run had got so far."""
    if not artifact_path(folder, image_id, ".png").is_file():
        save_label(folder, image_id, pseudo_label(*arguments))
    return load_label(folder, image_id)


def label_image(image_path, image_id: str, work: Path, crf: LabelCrf | None, max_megapixels: float, smallest_share: float | None) -> None:
    """Walked scores to label PNGs; runs in a worker process. Without `smallest_share` the label is the plain vote."""
    image = read_image(image_path, max_megapixels)
    # Always from the file, so that a label does not depend on whether its walk was computed before a restart.
    classes, _, background, foreground = load_walk(work / "walk", image_id)
    walked = np.concatenate([background[:1], foreground])
    plain = _vote(work / PLAIN, image_id, classes, walked, image, crf)
    normalised = _vote(work / NORMALISED, image_id, classes, normalized(walked), image, crf)
    # Written last: its presence says that the photo is done.
    save_label(work / "pseudo_labels", image_id, plain if smallest_share is None else agreed_label(plain, normalised, classes, smallest_share))


def walker(context: Context):
    """Function image uint8, channels [C, h, w] -> walked channels."""
    import tensorflow as tf

    from pipelines.train import weights_path
    from tfwsss.affinity import pair_affinity
    from tfwsss.models import normalization
    from tfwsss.randomwalk import random_walk
    from tfwsss.weights import load_model

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


def _left_out(work: Path, dataset, smallest_share: float) -> list[LeftOut]:
    """Photos whose label lacks a tagged class for good."""
    found = []
    for sample in dataset.samples:
        lost = missing(load_label(work / PLAIN, sample.id), load_label(work / NORMALISED, sample.id), sample.tags, smallest_share)
        if lost:
            names = ", ".join(dataset.classes[k] for k in lost)
            found.append(LeftOut(sample.id, f"less than {smallest_share:.3g} of the pixels: {names}"))
    return found


def _ignored_share(folder: Path, dataset) -> float:
    """Part of all pixels that no segmenter is trained on."""
    ignored = pixels = 0
    for sample in dataset.samples:
        label = load_label(folder, sample.id)
        ignored, pixels = ignored + np.count_nonzero(label == IGNORE), pixels + label.size
    return ignored / pixels


def run(context: Context) -> dict[str, float]:
    from tfwsss.training import make_deterministic

    config, settings = context.config, context.config.pseudo_labels
    smallest_share = settings.smallest_share if config.switches.label_tags == "corrected" else None
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
            yield sample.image, sample.id, context.work, settings.crf, dataset.max_megapixels, smallest_share

    with progress_bar("pseudo_labels", len(todo), config.runtime.progress) as bar:
        for _ in map_in_processes(label_image, arguments(), worker_count(config.runtime.workers)):
            bar.advance()
    left_out = [] if smallest_share is None else _left_out(context.work, dataset, smallest_share)
    context.run.artifact(write_left_out(context.work, left_out))
    if left_out:
        console.print(f"  {len(left_out)} of {len(dataset.samples)} photos left out of the segmenter's training: a tagged class has vanished from their label", markup=False)
    return {
        "images": len(dataset.samples),
        "walked": walked,
        "computed": len(todo),
        "left_out": len(left_out),
        "ignored_pixels": _ignored_share(folder, dataset),
    }


STAGE = Stage(
    name="pseudo_labels",
    run=run,
    tensorflow=True,
    needs=("cams", "affinity_labels", "affinitynet"),
    data=("train",),
    settings=("pseudo_labels", "switches.border_pairs", "switches.label_tags"),
    code=(
        "pipelines.pseudo_labels",
        "pipelines.left_out",
        "tfwsss.pseudolabel",
        "tfwsss.tag_consistency",
        "tfwsss.background",
        "tfwsss.crf",
        "tfwsss.affinity",
        "tfwsss.randomwalk",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.artifacts",
    ),
    outputs=("walk", PLAIN, NORMALISED),
)
