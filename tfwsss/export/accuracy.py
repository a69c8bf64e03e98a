"""What an export of lower precision costs: its mIoU on photos with masks beside that of the fp32 file."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from tfwsss.atomic import write_json
from tfwsss.errors import ExportError
from tfwsss.metrics import ConfusionMatrix
from tfwsss.strict_zip import strict_zip


def _masks(session, images: np.ndarray) -> np.ndarray:
    output = session.get_outputs()[0].name
    found = session.run([output], {"images": images})[0]
    return found if output == "mask" else found.argmax(axis=3).astype(np.uint8)


def check_accuracy(reference, variant, samples, *, budget: float = 0.01, output=None) -> dict:
    """Compare an fp16 or int8 file with the fp32 file it stands for.

    Args:
        reference, variant: ONNX files of `export_onnx`; each may have either output.
        samples: iterable of (photo uint8 [H, W, 3], label map uint8 [H, W] with 255 = ignore), evaluation photos.
        budget: mIoU (0..1) that the variant may lose.
        output: where to write the result as JSON; written only when the variant is within the budget.

    Returns:
        `path`, `precision`, `images`, `miou` and `reference_miou` (0..1), `lost`, `budget`, and `agreement`, the part of all
        pixels to which both files give the same label.

    Raises:
        ExportError: the variant loses more than the budget, or there is no labelled pixel to tell.
    """
    if output is not None:
        Path(output).unlink(missing_ok=True)  # an earlier result says nothing about this file
    sessions = [onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (reference, variant)]
    properties = sessions[1].get_modelmeta().custom_metadata_map
    scores = [ConfusionMatrix(len(json.loads(properties["labels"]))) for _ in sessions]
    images = equal = pixels = 0
    for image, label in samples:
        masks = [_masks(session, image[np.newaxis])[0] for session in sessions]
        for matrix, mask in strict_zip(scores, masks):
            matrix.update(label, mask)
        images, equal, pixels = images + 1, equal + int((masks[0] == masks[1]).sum()), pixels + masks[0].size
    expected, found = (matrix.miou() for matrix in scores)
    result = {
        "path": str(variant),
        "precision": properties["precision"],
        "images": images,
        "reference_miou": expected,
        "miou": found,
        "lost": expected - found,
        "budget": budget,
        "agreement": equal / max(pixels, 1),
    }
    if not result["lost"] <= budget:
        raise ExportError(f"{variant}: mIoU {found:.4f} on {images} photos, {expected:.4f} with {reference}: more than the budget of {budget:g} is lost")
    if output is not None:
        write_json(output, result)
    return result
