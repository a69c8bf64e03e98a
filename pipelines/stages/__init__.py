"""The steps from tagged photos to an exported segmenter: one file each, with its `STAGE`; `order.py` lists them.

Beside the stages stand what several of them share: `train.py` (the three trainings), `scoring.py` and `val_cams.py` (scores against masks)
and `registry.py` (MLflow's model registry).
"""
