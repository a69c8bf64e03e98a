"""Stage `segmenter`: any segmentation network, trained on the pseudo labels, or on masks for comparison."""

from ..engine.context import Context
from .training_labels import labelled_photos
from .training_stage import training_stage


def run(context: Context) -> dict[str, float]:
    from tfwsss.data.augment import pil_filter
    from tfwsss.data.inputs import segmenter_batches
    from tfwsss.data.label_sources import MixedLabels
    from tfwsss.models import build_segmenter, normalization
    from tfwsss.training.losses import PIXEL_LOSSES

    from .train import model_arguments, train_stage

    config, settings = context.config, context.config.segmenter
    dataset, labels = labelled_photos(context, settings.labels, "pseudo_labels")
    weighted = isinstance(labels, MixedLabels)
    pixel_loss = PIXEL_LOSSES[settings.loss]
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
            labels,
            settings,
            normalization(settings.model.backbone),
            filter=pil_filter("corrected"),
            seed=config.seed,
            epoch=epoch,
            part=part,
        ),
        loss=lambda logits, batch, total: {"loss": pixel_loss(logits, batch["label"], total, batch["weight"] if weighted else None)},
        ema=settings.ema,
    )


STAGE = training_stage(
    "segmenter",
    run,
    needs=("classifier", "pseudo_labels"),
    code=("tfwsss_pipelines.stages.training_labels", "tfwsss_pipelines.stages.left_out", "tfwsss.data.label_sources"),
)
