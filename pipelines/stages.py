"""The stages in the order they run."""

from pipelines import (
    affinity_labels,
    affinitynet,
    cams,
    classifier,
    data,
    evaluate,
    export,
    label_audit,
    label_scores,
    pseudo_labels,
    report,
    segmenter,
)
from pipelines.stage import Stage

STAGES: list[Stage] = [
    module.STAGE
    for module in (data, classifier, cams, affinity_labels, affinitynet, pseudo_labels, label_audit, label_scores, segmenter, evaluate, export, report)
]
