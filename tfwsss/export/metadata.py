"""What an exported segmenter says about itself: labels, colours, normalisation, versions."""

from __future__ import annotations

import dataclasses
import json

import keras
import tensorflow as tf

from tfwsss import __version__
from tfwsss.errors import ExportError
from tfwsss.export.inference import Inference
from tfwsss.storage.artifacts import voc_palette

FORMAT = "tfwsss.segmenter/1"


def describe(inference: Inference, class_names, extra: dict | None = None) -> dict:
    """The metadata common to all artefacts, as plain JSON values.

    Keys: `format`, `labels` (background first), `palette` (RGB per label), `normalization`, `test_time`, `licence`,
    `versions`; then those of `extra` (a data digest, an MLflow run, mIoU, another `licence`...).

    Args:
        class_names: without background, in the order of the labels 1, 2, ...
        extra: more entries, any JSON values.

    Raises:
        ExportError: the number of names is not the model's, a name is empty or twice there, or `extra` redefines a
            key that this function owns or holds something that JSON cannot.
    """
    names = tuple(class_names)
    if len(names) + 1 != inference.num_labels:
        raise ExportError(f"class_names: found {len(names)} names, expected {inference.num_labels - 1} (the model has {inference.num_labels} labels with background)")
    labels = ["background", *names]
    if len(set(labels)) != len(labels) or not all(isinstance(name, str) and name for name in labels):
        raise ExportError(f"class_names: expected different, non-empty names other than 'background', found {list(names)}")
    metadata = {
        "format": FORMAT,
        "labels": labels,
        "palette": voc_palette()[: len(labels)].tolist(),
        "normalization": dataclasses.asdict(inference.normalization),
        "test_time": {"scales": list(inference.scales), "flip": inference.flip},
        "licence": "unspecified",
        "versions": {"tfwsss": __version__, "tensorflow": tf.__version__, "keras": keras.__version__},
    }
    owned = (set(metadata) - {"licence"}) & set(extra or {})
    if owned:
        raise ExportError(f"metadata: {sorted(owned)} are written by the export itself")
    metadata |= extra or {}
    try:
        return json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ExportError(f"metadata: expected JSON values: {error}") from None
