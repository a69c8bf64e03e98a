"""Stage `segmenter`: any segmentation network, trained on the pseudo labels."""

from pipelines.context import Context
from pipelines.left_out import labelled
from pipelines.stage import Stage


def run(context: Context) -> dict[str, float]:
    from pipelines.train import model_arguments, train_stage
    from tfwsss.data.augment import pil_filter
    from tfwsss.data.inputs import segmenter_batches
    from tfwsss.losses import ohem_cross_entropy, segmentation_cross_entropy
    from tfwsss.models import build_segmenter, normalization

    config, settings = context.config, context.config.segmenter
    dataset = labelled(context.work, context.dataset("train"))
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
        "pipelines.segmenter",
        "pipelines.left_out",
        "pipelines.train",
        "tfwsss.training",
        "tfwsss.optimizer",
        "tfwsss.stack",
        "tfwsss.losses",
        "tfwsss.models",
        "tfwsss.weights",
        "tfwsss.normalization",
        "tfwsss.data.inputs",
        "tfwsss.data.augment",
        "tfwsss.data.changes",
    ),
)
