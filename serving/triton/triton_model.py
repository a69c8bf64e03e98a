"""What Triton's Python backend loads: its requests and responses, around `PhotoBatch`.

Input `image_bytes` BYTES [B, 1], files that tfwsss_onnx reads (JPEG, PNG, WEBP, BMP, TIFF, GIF) of any sizes. Output `mask_png` BYTES [B, 1].
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton  # Triton puts it on the path

from tfwsss_onnx import ImageError, Segmenter, SegmenterError

from .photo_batch import PhotoBatch

MODEL = "model.onnx"


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: dict) -> None:
        """Load the model file of the version and run photos without content.

        Args:
            args: of Triton; the configuration's `parameters` hold `max_megapixels`.

        Raises:
            SegmenterError: the file is none of ours, or does not run on the instance's device.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        # The other models of the server want the cores, too.
        segmenter = Segmenter(
            Path(args["model_repository"]) / args["model_version"] / MODEL, device=device, max_megapixels=float(parameters["max_megapixels"]["string_value"]), spinning=False
        )
        segmenter.warm_up()
        self._batch = PhotoBatch(segmenter)

    def execute(self, requests: list) -> list:
        """One response for each request: its masks, or one line that says what is wrong with which of its photos."""
        photos = [[] if request.is_cancelled() else _files(request) for request in requests]
        answers = iter(self._batch([file for files in photos for file in files]))
        return [_response(request, [next(answers) for _ in files]) for request, files in zip(requests, photos)]


def _files(request) -> list[bytes]:
    return [bytes(file) for file in triton.get_input_tensor_by_name(request, "image_bytes").as_numpy().reshape(-1)]


def _response(request, answers: list):
    if request.is_cancelled():
        return triton.InferenceResponse(error=triton.TritonError("cancelled by the client", triton.TritonError.CANCELLED))
    for index, answer in enumerate(answers):
        if isinstance(answer, SegmenterError):
            code = triton.TritonError.INVALID_ARG if isinstance(answer, ImageError) else triton.TritonError.INTERNAL
            return triton.InferenceResponse(error=triton.TritonError(f"{answer} (photo {index} of {len(answers)})" if len(answers) > 1 else str(answer), code))
    masks = np.array(answers, np.object_).reshape(-1, 1)
    return triton.InferenceResponse(output_tensors=[triton.Tensor("mask_png", masks)])
