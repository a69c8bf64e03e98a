"""The steps from tagged photos to an exported segmenter: one file each, with its `STAGE`; `NAMES` below lists them.

Beside the stages stand what several of them share: `train.py` and `training_stage.py` (the three trainings), `scoring.py` and `val_cams.py` (scores against masks)
and `registry.py` (MLflow's model registry). There are more files here than in other folders, as each stage has its own.
"""

# All stages, in the order they run: each has a module of its name, with its `STAGE`.
NAMES = (
    "data",
    "classifier",
    "cams",
    "affinity_labels",
    "affinitynet",
    "pseudo_labels",
    "label_audit",
    "label_scores",
    "segmenter",
    "evaluate",
    "export",
    "report",
)
