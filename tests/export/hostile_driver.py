"""A process that sends every hostile file to `serve_bytes` of an exported SavedModel: python -m tests.export.hostile_driver FOLDER.

Prints one JSON object: how many files were refused and served, what was wrong, and the most memory a file took, bytes.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tests.hostile.corpus import corpus
from tfwsss.data.image import read_image
from tfwsss.errors import ImageError


def status(field: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) * 1024


def as_training_reads(data: bytes, path: Path) -> np.ndarray | None:
    path.write_bytes(data)
    try:
        return read_image(path)
    except ImageError:
        return None


def judge(signatures, file, path: Path) -> tuple[bool, str]:
    """(whether a mask came back, what is wrong with that)."""
    try:
        answer = signatures["serve_bytes"](image_bytes=tf.constant([file.data]))["mask_png_bytes"].numpy()[0]
    except tf.errors.InvalidArgumentError:
        is_ours = file.data[:8] == b"\x89PNG\r\n\x1a\n" or file.data[:3] == b"\xff\xd8\xff"
        return False, "refused" if file.expectation.kind == "mask" and is_ours else ""
    except tf.errors.OpError as error:
        return False, f"{type(error).__name__}: {error.message[:200]}"
    if file.expectation.kind == "error":
        return True, "served"
    mask, image = np.asarray(Image.open(io.BytesIO(answer))), as_training_reads(file.data, path)
    if image is None:  # a sound picture beside something that Pillow objects to
        return True, ""
    if "orientation-twice" in file.name and image.shape[:2] != mask.shape:
        return True, ""  # EXIF allows one; Pillow 11 takes the last of two, Pillow 13 and the graph the first
    expected = signatures["serving_default"](images=tf.constant(image[np.newaxis]))["mask"].numpy()[0]
    return True, "" if np.array_equal(mask, expected) else "not the mask of what training reads"


def main(folder: str) -> None:
    warnings.simplefilter("ignore")  # Pillow warns of damaged EXIF
    signatures = tf.saved_model.load(folder).signatures
    warm = io.BytesIO()
    Image.new("RGB", (64, 64)).save(warm, "PNG")
    signatures["serve_bytes"](image_bytes=tf.constant([warm.getvalue()]))
    result = {"refused": 0, "served": 0, "wrong": [], "memory": 0}
    with tempfile.TemporaryDirectory() as scratch:
        for file in corpus():
            Path("/proc/self/clear_refs").write_text("5")  # the peak restarts from what is in use now
            before = status("VmRSS")
            served, wrong = judge(signatures, file, Path(scratch) / "photo")
            result["served" if served else "refused"] += 1
            result["wrong"] += [f"{file.name}: {wrong}"] if wrong else []
            result["memory"] = max(result["memory"], status("VmHWM") - before)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
