"""The stages in the order they run."""

from ..engine.stage import Stage
from . import (
    affinity_labels,
    affinitynet,
    cams,
    classifier,
    data,
    evaluate,
    export,
    label_scores,
    pseudo_labels,
    report,
    segmenter,
)

STAGES: list[Stage] = [
    module.STAGE
    for module in (data, classifier, cams, affinity_labels, affinitynet, pseudo_labels, label_scores, segmenter, evaluate, export, report)
]
