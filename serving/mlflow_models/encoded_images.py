"""MLflow model from code: encoded photos in, PNG masks out. MLflow copies this file into the model and runs it there.

Beside it lie the ONNX file (artifact `onnx`) and the runtime `tfwsss_onnx`; nothing is pickled.
"""

from __future__ import annotations

import base64
import binascii

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException


class EncodedImages(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]  # MLflow makes this name when it runs
    """A table of photos -> a table of masks, row by row.

    Input: column `image`, files that tfwsss_onnx reads (JPEG, PNG, ...) as bytes or base64.
    Output: `mask_png`, an indexed PNG of the upright photo's size, 0 = background; `labels`, the names that occur in it
        without background; `height` and `width`. In JSON bytes are base64.

    `model_config` may hold `device` ("auto", "cpu", "cuda") and `max_megapixels`.
    """

    def load_context(self, context) -> None:
        from tfwsss_onnx import Segmenter

        config = context.model_config or {}
        self._segmenter = Segmenter(context.artifacts["onnx"], device=config.get("device", "auto"), max_megapixels=config.get("max_megapixels", 50.0))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None):
        rows = [self._segment(image, row) for row, image in enumerate(model_input["image"])]
        return pd.DataFrame(rows, columns=["mask_png", "labels", "height", "width"])

    def _segment(self, image, row: int) -> dict:
        from tfwsss_onnx import SegmenterError, mask_png

        try:
            mask = self._segmenter(base64.b64decode(image, validate=True) if isinstance(image, str) else bytes(image))
        except (SegmenterError, binascii.Error, TypeError) as error:
            raise MlflowException.invalid_parameter_value(f"image {row}: {error}") from None
        found = [self._segmenter.labels[label] for label in np.unique(mask) if label]
        return {"mask_png": mask_png(mask, self._segmenter.palette), "labels": found, "height": mask.shape[0], "width": mask.shape[1]}


mlflow.models.set_model(EncodedImages())
