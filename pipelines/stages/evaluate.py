"""Stage `evaluate`: the segmenter against the masks, where there are masks, and the table of all scores.

Its label maps are kept below evaluate/, so that a killed run goes on and every score can be recomputed from files.
"""

from tfwsss.config import Crf
from tfwsss.crf import dense_crf
from tfwsss.report.table import ScoreRow
from tfwsss.storage.artifacts import artifact_path, save_label

from ..engine.context import Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage
from .refinement import map_photos, prepare_crf
from .scoring import load_table, save_table, score_labels, score_row, with_masks

SINGLE, MULTI, MULTI_CRF = "segmenter", "segmenter_multiscale", "segmenter_multiscale_crf"


def segmenter_crf_image(image, image_id: str, scores, folder, crf: Crf) -> None:
    """Label of the segmenter's scores [H, W, C+1] after a dense CRF."""
    save_label(folder, image_id, dense_crf(image, scores, **crf.model_dump()).argmax(axis=2))


def _predict(context: Context, dataset) -> dict[str, str]:
    """Label maps of the segmenter on every evaluation photo. Returns {row name: folder name}."""
    import tensorflow as tf

    from tfwsss.export.inference import Inference
    from tfwsss.models import normalization
    from tfwsss.training.loop import make_deterministic
    from tfwsss.weights import load_model

    from .train import weights_path

    config, settings = context.config, context.config.evaluate
    make_deterministic(config.seed)
    kinds = {"segmenter": SINGLE, "segmenter, multi-scale": MULTI}
    if settings.crf is not None:
        kinds["segmenter, multi-scale + CRF"] = MULTI_CRF
    folders = {kind: context.folder(f"evaluate/{kind}") for kind in kinds.values()}
    last = folders[list(kinds.values())[-1]]
    todo = [sample for sample in dataset.samples if not artifact_path(last, sample.id, ".png").is_file()]
    if not todo:
        return kinds
    prepare_crf(settings.crf)
    model = load_model(weights_path(context.work, "segmenter"))
    normalize = normalization(config.segmenter.model.backbone)
    signature = [tf.TensorSpec([1, None, None, 3], tf.uint8)]
    single = tf.function(Inference(model, normalize).scores, input_signature=signature, autograph=False)
    multi = tf.function(Inference(model, normalize, scales=settings.scales, flip=settings.flip).scores, input_signature=signature, autograph=False)

    def arguments():
        for sample in todo:
            image = dataset.read(sample)
            if not artifact_path(folders[SINGLE], sample.id, ".png").is_file():
                save_label(folders[SINGLE], sample.id, single(image[None])[0].numpy().argmax(axis=2))
            scores = multi(image[None])[0].numpy()  # also when its label is there: the CRF needs the scores
            if not artifact_path(folders[MULTI], sample.id, ".png").is_file():
                save_label(folders[MULTI], sample.id, scores.argmax(axis=2))
            yield image, sample.id, scores, last, settings.crf

    with progress_bar("segmenter on the evaluation photos", len(todo), config.runtime.progress) as bar:
        if settings.crf is None:
            for _ in arguments():
                bar.advance()
        else:
            for _ in map_photos(segmenter_crf_image, arguments(), config.runtime.workers, settings.crf):
                bar.advance()
    return kinds


def _rows(context: Context, dataset) -> list[ScoreRow]:
    kinds = _predict(context, dataset)
    masked = with_masks(dataset)
    if not masked:
        console.print("  no masks for the evaluation photos: the segmenter is not scored")
        return []
    folder, labels = context.work / "evaluate", dataset.num_classes + 1
    return [score_row(name, "val", score_labels(folder / kind, masked, labels), len(masked), dataset.classes) for name, kind in kinds.items()]


def run(context: Context) -> dict[str, float]:
    learnt_from_masks = context.config.segmenter.labels == "masks"  # then there are no other labels to score
    rows = [] if learnt_from_masks else list(load_table(context.work, "label_scores").rows)
    validation = context.scored_dataset("val")
    if validation is not None and validation.samples:
        rows += _rows(context, validation)
    return save_table(context, "evaluate", rows)


STAGE = Stage(
    name="evaluate",
    run=run,
    tensorflow=True,
    needs=("label_scores", "segmenter"),
    data=("val", "val_masks"),
    settings=("evaluate",),
    code=(
        "tfwsss_pipelines.stages.evaluate",
        "tfwsss_pipelines.stages.scoring",
        "tfwsss.metrics",
        "tfwsss.export.inference",
        "tfwsss.crf",
        "tfwsss_densecrf",
        "tfwsss.models",
        "tfwsss.normalization",
        "tfwsss.storage.artifacts",
    ),
)
