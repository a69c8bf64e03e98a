"""Stage `segmenter`: any segmentation network, trained on the pseudo labels."""

from ..engine.context import Context
from ..engine.stage import Stage


def run(context: Context) -> dict[str, float]:
    from tfwsss.data.augment import pil_filter
    from tfwsss.data.inputs import segmenter_batches
    from tfwsss.models import build_segmenter, normalization
    from tfwsss.training.losses import ohem_cross_entropy, segmentation_cross_entropy

    from .train import model_arguments, train_stage

    config, settings = context.config, context.config.segmenter
    dataset = context.dataset("train")
    pixel_loss = {"cross_entropy": segmentation_cross_entropy, "ohem": ohem_cross_entropy}[settings.loss]
    arguments = model_arguments(settings.model, "corrected")
    return train_stage(
        context,
        "segmenter",
        settings,
        images=len(dataset.samples),
        momentum="corrected",
        build=lambda: build_segmenter(settings.model.backbone, dataset.num_classes, head=settings.head, **arguments),
        batches=lambda epoch, part: segmenter_batches(
            dataset,
            context.work / "pseudo_labels",
            settings,
            normalization(settings.model.backbone),
            filter=pil_filter("corrected"),
            seed=config.seed,
            epoch=epoch,
            part=part,
        ),
        loss=lambda logits, batch, total: {"loss": pixel_loss(logits, batch["label"], total)},
    )


STAGE = Stage(
    name="segmenter",
    run=run,
    tensorflow=True,
    all_workers=True,
    needs=("classifier", "pseudo_labels"),
    data=("train",),
    settings=("seed", "segmenter"),
    code=(
        "tfwsss_pipelines.stages.segmenter",
        "tfwsss_pipelines.stages.train",
        "tfwsss.training.loop",
        "tfwsss.training.optimizer",
        "tfwsss.stack",
        "tfwsss.training.losses",
        "tfwsss.models",
        "tfwsss.weights",
        "tfwsss.normalization",
        "tfwsss.data.inputs",
        "tfwsss.data.augment",
        "tfwsss.data.changes",
    ),
)
