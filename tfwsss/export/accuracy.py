"""What exports of lower precision cost: their mIoU on photos with masks beside that of the fp32 file."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx

from tfwsss.errors import ExportError
from tfwsss.export.fresh_onnx import run_fresh
from tfwsss.metrics import ConfusionMatrix
from tfwsss.storage.atomic import write_json

_TOGETHER = 64  # photos whose pixels and masks lie in temporary files at once


class _Score:
    def __init__(self, path, num_labels: int):
        self.path = path
        self.matrix = ConfusionMatrix(num_labels)
        self.equal = 0


def _mask(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return (outputs["mask"] if "mask" in outputs else outputs["scores"].argmax(axis=3).astype(np.uint8))[0]


def _properties(path) -> dict[str, str]:
    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def check_accuracy(reference, variants, samples, *, budget: float = 0.01, output=None) -> dict:
    """Compare fp16 and int8 files with the fp32 file they stand for. Each runs in a fresh process without TensorFlow.

    Args:
        reference, variants: ONNX file and list of ONNX files of `export_onnx`; each may have either output.
        samples: iterable of (photo uint8 [H, W, 3], label map uint8 [H, W] with 255 = ignore), evaluation photos.
        budget: mIoU (0..1) that each variant may lose.
        output: where to write the result as JSON; written only when every variant is within the budget.

    Returns:
        `images`, `budget`, `reference` (`path`, `miou` in 0..1), and `variants`: by precision `path`, `miou`, `lost`, and
        `agreement`, the part of all pixels to which both files give the same label.

    Raises:
        ExportError: a variant loses more than the budget, does not run, or there is no labelled pixel to tell.
    """
    if output is not None:
        Path(output).unlink(missing_ok=True)  # an earlier result says nothing about these files
    properties = [_properties(path) for path in variants]
    num_labels = len(json.loads(_properties(reference)["labels"]))
    scores = [_Score(path, num_labels) for path in (reference, *variants)]
    images = pixels = 0
    samples = iter(samples)
    while group := list(itertools.islice(samples, _TOGETHER)):
        with tempfile.TemporaryDirectory() as folder:
            for index, (image, _) in enumerate(group):
                np.savez(Path(folder) / f"case_{index:04}.npz", images=image[np.newaxis])
            expected: list[np.ndarray] = []
            for score in scores:
                masks = [_mask(outputs) for outputs in run_fresh(score.path, folder)]
                expected = expected or masks
                for (_, label), mask, other in zip(group, masks, expected, strict=True):
                    score.matrix.update(label, mask)
                    score.equal += int((mask == other).sum())
        images, pixels = images + len(group), pixels + sum(image[..., 0].size for image, _ in group)
    best = scores[0].matrix.miou()
    result: dict = {"images": images, "budget": budget, "reference": {"path": str(reference), "miou": best}, "variants": {}}
    for entry, score in zip(properties, scores[1:], strict=True):
        found = score.matrix.miou()
        if not best - found <= budget:
            raise ExportError(f"{score.path}: mIoU {found:.4f} on {images} photos, {best:.4f} with {reference}: more than the budget of {budget:g} is lost")
        result["variants"][entry["precision"]] = {"path": str(score.path), "miou": found, "lost": best - found, "agreement": score.equal / max(pixels, 1)}
    if output is not None:
        write_json(output, result)
    return result
