"""The stages in the order they run."""

import importlib
from dataclasses import replace

from tfwsss.config import Config

from ..engine.context import STRONG_MASKS
from ..engine.stage import Stage
from . import NAMES

STAGES: list[Stage] = [importlib.import_module(f".{name}", __package__).STAGE for name in NAMES]
LEARNING_FROM_LABELS = ("affinitynet", "segmenter")


def stages_for(config: Config) -> list[Stage]:
    """The stages that a configuration needs, in order.

    A segmenter that learns from masks needs no pseudo labels, and a classifier only to start from. A stage that learns
    from labels depends on `data.strong_masks`, too, where there are some.
    """
    unneeded: set[str] = set()
    if config.segmenter.labels == "masks":
        unneeded = {*(stage.name for stage in STAGES if stage.labelling), *(() if config.segmenter.model.weights == "classifier" else ("classifier",))}
    stages = []
    for stage in STAGES:
        if stage.name in unneeded:
            continue
        if stage.name in LEARNING_FROM_LABELS and config.data.strong_masks is not None:
            stage = replace(stage, data=(*stage.data, STRONG_MASKS))
        stages.append(replace(stage, needs=tuple(name for name in stage.needs if name not in unneeded)))
    return stages
