"""The configuration of a whole pipeline: typed sections, YAML files, the list of fields, errors that name a field."""

from tfwsss.config.data import CocoData, Data, FolderData, ScenesData, VocData
from tfwsss.config.schema import (
    NAMED_ALPHAS,
    AffinityNet,
    Augmentation,
    Classifier,
    Config,
    Crf,
    Fidelity,
    FixedAlphas,
    LabelCrf,
    Model,
    Optimizer,
    Segmenter,
    Serving,
    Switches,
    Training,
)
from tfwsss.config.section import Section

__all__ = [
    "AffinityNet",
    "Augmentation",
    "Classifier",
    "CocoData",
    "Config",
    "Crf",
    "Data",
    "Fidelity",
    "FixedAlphas",
    "FolderData",
    "LabelCrf",
    "Model",
    "NAMED_ALPHAS",
    "Optimizer",
    "ScenesData",
    "Section",
    "Segmenter",
    "Serving",
    "Switches",
    "Training",
    "VocData",
]
