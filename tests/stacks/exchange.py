"""What this stack makes of given weights: exported files' answers and augmented images, as one .npz.

    exchange.py save FILE          weights of a small segmenter of this stack
    exchange.py answer FILE...     <FILE>.<stack>.npz: answers of the model: Keras, SavedModel, ONNX; and the augmentations
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf

from tfwsss import stack
from tfwsss.export import export_onnx, export_saved_model
from tfwsss.models import build_segmenter, normalization
from tfwsss.training.loop import make_deterministic
from tfwsss.weights import load_model, save_weights

CLASSES = ("cat", "dog")
BACKBONE = "vgg16"


def photos() -> np.ndarray:
    rng = np.random.default_rng(8)
    coarse = rng.integers(0, 256, (2, 9, 13, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, 3:68, 5:102]


def save(path: Path) -> None:
    make_deterministic(13)
    save_weights(build_segmenter(BACKBONE, len(CLASSES), head="atrous", width=0.0625), path)


def answer(path: Path) -> None:
    model = load_model(path)
    arguments = {"class_names": CLASSES, "normalization": normalization(BACKBONE)}
    found = {"keras": model(normalization(BACKBONE)(photos())).numpy()}
    with tempfile.TemporaryDirectory() as folder:
        exported = export_saved_model(model, Path(folder) / "segmenter", **arguments)
        served = tf.saved_model.load(str(exported)).signatures
        found["saved_model_scores"] = served["scores"](images=tf.constant(photos()))["scores"].numpy()
        found["saved_model_mask"] = served["serving_default"](images=tf.constant(photos()))["mask"].numpy()
        onnx = Path(folder) / "model.onnx"
        export_onnx(model, onnx, outputs=("scores", "mask"), **arguments)
        session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        values = dict(zip(names, session.run(names, {session.get_inputs()[0].name: photos()}), strict=True))
        found.update({f"onnx_{name}": value for name, value in values.items()})
    image = photos()[0]
    found["warped"] = stack.warp(image.astype(np.float32), 0.5, 0.2, bilinear=True, fill=0.0)
    found["warped_label"] = stack.warp(image[..., :1], 0.5, 0.2, bilinear=False, fill=255)
    found["sharpened"] = stack.sharpen(image, 1.7)
    found["cut_out"] = stack.cutout(tf.constant(photos()), tf.constant([[10, 12], [60, 90]]), 16).numpy()
    np.savez(f"{path}.{stack.NAME}.npz", **found)


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(Path(sys.argv[2]))
    else:
        for name in sys.argv[2:]:
            answer(Path(name))
