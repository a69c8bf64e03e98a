"""Stage `classifier`: a multi-label classifier of the tags (Ahn & Kwak, CVPR 2018, section 3.1)."""

from ..engine.context import Context
from .training_stage import training_stage


def run(context: Context) -> dict[str, float]:
    import tensorflow as tf

    from tfwsss import stack
    from tfwsss.data.augment import pil_filter
    from tfwsss.data.inputs import classifier_batches
    from tfwsss.models import build_classifier, normalization
    from tfwsss.training.losses import multilabel_soft_margin

    from .train import model_arguments, train_stage

    config, settings = context.config, context.config.classifier
    dataset = context.dataset("train")
    arguments = model_arguments(settings.model, config.switches.dropout) | {name: getattr(settings, name) for name in ("depth", "pooling", "sharpness")}
    return train_stage(
        context,
        "classifier",
        settings,
        images=len(dataset.samples),
        momentum=config.switches.momentum,
        build=lambda: build_classifier(settings.model.backbone, dataset.num_classes, **arguments),
        batches=lambda epoch, part: classifier_batches(
            dataset,
            settings,
            normalization(settings.model.backbone),
            filter=pil_filter(config.switches.resize_filter),
            seed=config.seed,
            epoch=epoch,
            part=part,
        ),
        loss=lambda logits, batch, total: {"loss": multilabel_soft_margin(logits, batch["tags"], total, batch["known"])},
        metrics={"f1": stack.f1_score(dataset.num_classes)},
        # A true negative, which is what both zeros are, does not enter F1.
        compared=lambda logits, batch: (batch["tags"], tf.sigmoid(logits) * batch["known"]),
    )


STAGE = training_stage("classifier", run, switches=("momentum", "dropout", "resize_filter"))
