"""The fresh process of the parity check: `python -m tfwsss.export.parity_keras REQUEST.json` (see `tfwsss.export.parity`).

It computes the reference's answers at once, and then waits on standard input for the artefacts to compare with them.
"""

from __future__ import annotations

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from tfwsss.data.image import read_image, reduced_size, with_nearest
from tfwsss.errors import ExportError, TfwsssError
from tfwsss.export.fresh_onnx import run_fresh
from tfwsss.export.photo_size import reduced_photos
from tfwsss.normalization import Normalization
from tfwsss.storage.atomic import write_json

SMALLEST_SCORE = 1e-12  # averaged scores below this are equal in the comparison: their logarithm is noise
SCORE_RESOLUTION = 1e-6
FIXED_SIZE_IMAGES = 3


def smooth_image(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A photo-like random image, uint8 [height, width, 3]: blobs of several sizes and a little noise."""
    total = rng.normal(0, 6, (height, width, 3))
    for cells, strength in ((3, 60), (8, 35), (20, 15)):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        total += strength * (np.asarray(grid, np.float64) / 127.5 - 1)
    return np.clip(127.5 + total, 0, 255).astype(np.uint8)


class Reference:
    """The Keras model's answer, in NumPy wherever an export has a graph of its own."""

    def __init__(self, model, normalization: Normalization, scales, flip: bool):
        self._run = tf.function(lambda images: model(images, training=False), input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)], autograph=False)
        self._normalization = normalization
        self._scales, self._flip = scales, flip

    def _logits(self, images, size):
        # Rounded to uint8 nowhere: scaled photos stay float, as in the exported graph.
        logits = self._run(self._normalization(images)).numpy().astype(np.float64)
        return logits if logits.shape[1:3] == tuple(size) else tf.image.resize(logits, size).numpy().astype(np.float64)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [B, H, W, 3] -> (logits or log scores, scores), float64 [B, H, W, L] each."""
        size = images.shape[1:3]
        images = images.astype(np.float32)
        if list(self._scales) == [1.0] and not self._flip:
            logits = self._logits(images, size)
            return logits, softmax(logits)
        total: Any = 0.0  # an array from the first variant on
        count = 0
        for mirrored in (False, True) if self._flip else (False,):
            for scale in self._scales:
                # In float32 like the graph, so that halves are rounded alike.
                scaled = [max(1, int(np.round(np.float32(side) * np.float32(scale)))) for side in size]
                source = images[:, :, ::-1] if mirrored else images
                source = source if scale == 1.0 else tf.image.resize(source, scaled).numpy()
                scores = softmax(self._logits(source, scaled))
                scores = scores if scale == 1.0 else tf.image.resize(scores, size).numpy().astype(np.float64)
                total = total + (scores[:, :, ::-1] if mirrored else scores)
                count += 1
        mean = total / count
        return np.log(np.maximum(mean, SMALLEST_SCORE)), mean


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class Comparison:
    """Collects what one artefact did on all images; raises ExportError at the first break of the rule."""

    def __init__(self, artefact: str, tolerance: float):
        self._artefact, self._tolerance = artefact, tolerance
        self._result: dict[str, Any] = {"path": artefact, "images": 0, "pixels": 0, "different_pixels": 0, "largest_margin_of_difference": 0.0, "largest_score_difference": 0.0}

    def masks(self, name: str, logits: np.ndarray, mask: np.ndarray) -> None:
        """`mask` uint8 [B, H, W] against the reference's logits [B, H, W, L] of the batch called `name`."""
        if mask.dtype != np.uint8 or mask.shape != logits.shape[:3]:
            raise ExportError(f"{self._artefact}: {name}: found mask {mask.dtype} {mask.shape}, expected uint8 {logits.shape[:3]}")
        for index, (values, labels) in enumerate(zip(logits, mask, strict=True)):
            bound = self._tolerance * (values.max() - values.min())
            expected = values.argmax(-1)
            different = np.argwhere(labels != expected)
            self._result["images"] += 1
            self._result["pixels"] += labels.size
            self._result["different_pixels"] += len(different)
            for y, x in different:
                label = int(labels[y, x])
                margin = values[y, x].max() - values[y, x, label] if label < values.shape[-1] else np.inf
                if not margin <= bound:
                    raise ExportError(
                        f"{self._artefact}: {name}, image {index}, pixel (y={y}, x={x}): label {label}, Keras gives {expected[y, x]} "
                        f"with a margin of {margin:.3g}, numeric error bound {bound:.3g}; {len(different)} of {labels.size} pixels differ"
                    )
                self._result["largest_margin_of_difference"] = max(self._result["largest_margin_of_difference"], float(margin))

    def scores(self, name: str, logits: np.ndarray, expected: np.ndarray, found: np.ndarray) -> None:
        """`found` float32 [B, H, W, L] against the reference's scores."""
        if found.dtype != np.float32 or found.shape != expected.shape:
            raise ExportError(f"{self._artefact}: {name}: found scores {found.dtype} {found.shape}, expected float32 {expected.shape}")
        for index, values in enumerate(logits):
            bound = self._tolerance * (values.max() - values.min()) + SCORE_RESOLUTION
            difference = np.abs(found[index] - expected[index])
            place = np.unravel_index(difference.argmax(), difference.shape)
            if not difference[place] <= bound:
                raise ExportError(
                    f"{self._artefact}: {name}, image {index}, pixel (y={place[0]}, x={place[1]}): score of label {place[2]} is {found[index][place]:.6g}, "
                    f"Keras gives {expected[index][place]:.6g}, numeric error bound {bound:.3g}"
                )
            self._result["largest_score_difference"] = max(self._result["largest_score_difference"], float(difference[place]))

    def result(self) -> dict:
        return self._result


def _batches(request: dict):
    """(name, images uint8 [B, H, W, 3], the encoded file or None) of everything that is compared."""
    rng = np.random.default_rng(0)
    for tall, wide in request["sizes"]:
        height, width = reduced_size(tall, wide, request["long_side"])
        for batch in request["batches"]:
            yield f"generated {height}x{width} batch {batch}", np.stack([smooth_image(rng, height, width) for _ in range(batch)]), None
    fixed = request["tflite_size"]
    for _ in range(FIXED_SIZE_IMAGES if fixed else 0):
        yield f"generated {fixed[0]}x{fixed[1]}", smooth_image(rng, *fixed)[np.newaxis], None
    for photo in map(Path, request["photos"]):
        # Photos are the caller's choice; the limit on their size is for files from elsewhere.
        pixels = reduced_photos(tf.constant(read_image(photo, max_megapixels=math.inf))[tf.newaxis], request["long_side"]).numpy()[0]
        yield photo.name, pixels[np.newaxis], photo.read_bytes() if _decodes_alike(photo) else None
        if fixed:
            yield f"{photo.name} scaled to {fixed[0]}x{fixed[1]}", np.asarray(Image.fromarray(pixels).resize(fixed[::-1], Image.Resampling.BILINEAR))[np.newaxis], None


def _decodes_alike(photo: Path) -> bool:
    """Whether `serve_bytes` sees the pixels that training sees, as it does except for the cases named in its description."""
    with Image.open(photo) as picture:
        return picture.format in ("JPEG", "PNG") and picture.mode != "CMYK" and not {"xmp", "XML:com.adobe.xmp"} & set(picture.info)


def _check_saved_model(loaded, comparison: Comparison, name, images, encoded, logits, scores, long_side: int | None) -> None:
    comparison.masks(name, logits, loaded.signatures["serving_default"](images=tf.constant(images))["mask"].numpy())
    comparison.scores(name, logits, scores, loaded.signatures["scores"](images=tf.constant(images))["scores"].numpy())
    files = [encoded] if encoded is not None else [tf.io.encode_png(image).numpy() for image in images]
    answers = loaded.signatures["serve_bytes"](image_bytes=tf.constant(files))["mask_png_bytes"].numpy()
    masks = [tf.io.decode_png(answer, channels=1).numpy()[:, :, 0] for answer in answers]
    size = images.shape[1:3]
    # A mask has the size of the file, which may be larger than what is compared; one of any other size is found by the comparison.
    masks = [with_nearest(mask, size) if reduced_size(mask.shape[0], mask.shape[1], long_side) == size else mask for mask in masks]
    comparison.masks(f"{name} (serve_bytes)", logits, np.stack(masks))


def _check_tflite(path: str, comparison: Comparison, request: dict, cases) -> None:
    try:
        runner = tf.lite.Interpreter(model_path=path).get_signature_runner("serving_default")
    except ValueError as error:
        raise ExportError(f"{path}: LiteRT does not load it: {str(error).splitlines()[0]}") from None
    for number, (name, _) in enumerate(cases):
        with np.load(_case(request, number), allow_pickle=False) as case:
            if case["images"].shape[:3] == (1, *request["tflite_size"]):
                comparison.masks(name, case["logits"], runner(images=case["images"])["mask"])


def answer_cases(request: dict) -> list[tuple[str, bytes | None]]:
    """Write what is compared and the reference's answers to FOLDER/case_*.npz. Returns (name, encoded file or None) of each."""
    from tfwsss.weights import load_model

    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in request["normalization"].items()}
    normalization = Normalization(**fields)
    reference = Reference(load_model(request["weights"]), normalization, request["scales"], request["flip"])
    cases = []
    for number, (name, images, encoded) in enumerate(_batches(request)):
        logits, scores = reference(images)
        np.savez(_case(request, number), images=images, logits=logits, scores=scores)
        cases.append((name, encoded))
    return cases


def _case(request: dict, number: int) -> Path:
    return Path(request["folder"]) / f"case_{number:04}.npz"


def compare(request: dict, cases: list[tuple[str, bytes | None]], artefacts: dict) -> dict:
    """Compare artefacts with the answers; `artefacts` holds the paths `saved_model`, `onnx` and `tflite`, or None.

    Raises:
        ExportError: see `tfwsss.export.parity`.
    """
    comparisons = {kind: Comparison(path, request["tolerance"]) for kind, path in artefacts.items() if path}
    saved_model, onnx = comparisons.get("saved_model"), comparisons.get("onnx")
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(run_fresh, artefacts["onnx"], request["folder"]) if onnx else None
        if saved_model:
            loaded = tf.saved_model.load(artefacts["saved_model"])
            for number, (name, encoded) in enumerate(cases):
                with np.load(_case(request, number), allow_pickle=False) as case:
                    _check_saved_model(loaded, saved_model, name, case["images"], encoded, case["logits"], case["scores"], request["long_side"])
        if "tflite" in comparisons:
            _check_tflite(artefacts["tflite"], comparisons["tflite"], request, cases)
        if onnx and found:
            for number, ((name, _), outputs) in enumerate(zip(cases, found.result(), strict=True)):
                with np.load(_case(request, number), allow_pickle=False) as case:
                    if "mask" in outputs:
                        onnx.masks(name, case["logits"], outputs["mask"])
                    if "scores" in outputs:
                        onnx.scores(name, case["logits"], case["scores"], outputs["scores"])
    return {
        "artefacts": {kind: comparison.result() for kind, comparison in comparisons.items()},
        "tolerance": request["tolerance"],
        "sizes": request["sizes"],
        "batches": request["batches"],
        "photos": len(request["photos"]),
        "test_time": {"scales": request["scales"], "flip": request["flip"]},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }


def main(request_path: str) -> None:
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    try:
        cases = answer_cases(request)
        if not (line := sys.stdin.read()):
            return  # the export failed: there is nothing to compare
        answer = compare(request, cases, json.loads(line))
    except TfwsssError as error:
        answer = {"error": str(error)}
    write_json(Path(request["folder"]) / "answer.json", answer)


if __name__ == "__main__":
    main(sys.argv[1])
