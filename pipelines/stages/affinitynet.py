"""Stage `affinitynet`: features whose distance tells whether two pixels belong together (section 3.2 of the paper)."""

from typing import Literal

from tfwsss.config import Config, Fidelity
from tfwsss.config.networks import AFFINITY_FEATURES

from ..engine.context import Context
from .training_labels import labelled_photos
from .training_stage import training_stage

CANVAS: dict[Fidelity, Literal["black", "mean"]] = {"faithful": "black", "corrected": "mean"}


def affinity_model(config: Config):
    """The untrained network of a configuration."""
    from tfwsss.models import build_affinitynet

    from .train import model_arguments

    model = config.affinitynet.model
    return build_affinitynet(
        model.backbone, features=AFFINITY_FEATURES[config.switches.affinity_width], **model_arguments(model, config.switches.dropout)
    )


def run(context: Context) -> dict[str, float]:
    from tfwsss.affinity import affinity_labels, affinity_loss, pair_affinity
    from tfwsss.data.inputs import affinity_batches
    from tfwsss.data.label_sources import MixedLabels
    from tfwsss.models import normalization

    from .train import train_stage

    config, settings = context.config, context.config.affinitynet
    dataset, labels = labelled_photos(context, settings.labels, "affinity_labels")
    weighted = isinstance(labels, MixedLabels)

    def loss(features, batch, total):
        affinity = pair_affinity(features, settings.radius)
        losses = affinity_loss(affinity, affinity_labels(batch["label"], settings.radius), total, batch["weight"] if weighted else None)
        return {"loss": losses.total, "loss_bg": losses.bg, "loss_fg": losses.fg, "loss_neg": losses.neg}

    return train_stage(
        context,
        "affinitynet",
        settings,
        images=len(dataset.samples) * settings.crops_per_image,
        momentum=config.switches.momentum,
        build=lambda: affinity_model(config),
        batches=lambda epoch, part: affinity_batches(
            dataset,
            labels,
            settings,
            normalization(settings.model.backbone),
            canvas=CANVAS[config.switches.crop_canvas],
            seed=config.seed,
            epoch=epoch,
            part=part,
        ),
        loss=loss,
    )


STAGE = training_stage(
    "affinitynet",
    run,
    labelling=True,
    needs=("classifier", "affinity_labels"),
    switches=("momentum", "dropout", "crop_canvas", "affinity_width"),
    code=("tfwsss_pipelines.stages.training_labels", "tfwsss.affinity", "tfwsss.data.label_sources", "tfwsss.data.label_grid"),
)
