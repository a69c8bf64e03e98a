"""The parity contract: an exported segmenter gives the masks of the Keras model, or it does not count as exported.

The check runs in a fresh process that builds the model anew from its weights file, so that nothing of the exporting
process can help; the ONNX file runs in a second one in which TensorFlow cannot be imported. All use the CPU.

Rule, per image: let ``a`` be the Keras logits and ``e = tolerance * (max(a) - min(a))``, the numeric error that float32
arithmetic in another order can cause. Where an artefact's label k differs from Keras' argmax, ``max_j a_j - a_k <= e``
must hold; scores must agree to ``e`` (and a millionth, what float32 resolves near 1). With test-time variants ``a`` is the logarithm of the averaged scores.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tfwsss
from tfwsss.errors import ExportError
from tfwsss.normalization import Normalization
from tfwsss.storage.atomic import write_json

# Height and width, none a multiple of an output stride, of every remainder that matters.
SIZES = ((33, 47), (47, 33), (35, 161), (49, 65), (57, 99), (63, 121), (65, 65), (77, 43), (91, 129), (97, 55), (129, 71), (161, 37))
BATCHES = (1, 2, 3)
TOLERANCE = 2e-4


class ParityCheck:
    """Compares exported artefacts with the Keras model of a weights file; a context manager.

    On entering, the fresh process starts and computes the Keras model's answers, while the artefacts are still being made.

    Args:
        weights: file written by `tfwsss.weights.save_weights`.
        normalization, scales, flip: what the artefacts are exported with.
        sizes: (height, width) of generated photos; each is tried with every number in `batches`.
        photos: paths of JPEG or PNG files, tried one by one, by `serve_bytes` too.
        tflite_size: height and width that a .tflite file takes; photos, scaled to it, and generated ones are tried with every artefact.
        long_side: photos with a longer side, generated ones too, are compared as small as it says; masks of `serve_bytes` are brought back to that size.
        tolerance: relative numeric error (see the module's rule).
    """

    def __init__(self, weights, *, normalization: Normalization, scales=(1.0,), flip: bool = False, sizes=SIZES, batches=BATCHES, photos=(), tflite_size=None, long_side: int | None = None, tolerance: float = TOLERANCE):
        self._request = {
            "weights": str(Path(weights).resolve()),
            "normalization": asdict(normalization),
            "scales": list(scales),
            "flip": bool(flip),
            "sizes": [list(size) for size in sizes],
            "batches": list(batches),
            "photos": [str(Path(photo).resolve()) for photo in photos],
            "tflite_size": None if tflite_size is None else list(tflite_size),
            "long_side": long_side,
            "tolerance": tolerance,
        }

    def __enter__(self) -> ParityCheck:
        with contextlib.ExitStack() as undo:
            self._folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
            write_json(self._folder / "request.json", {**self._request, "folder": str(self._folder)})
            package_root = str(Path(tfwsss.__file__).parent.parent)
            paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
            command = [sys.executable, "-m", "tfwsss.export.parity_keras", str(self._folder / "request.json")]
            # A file and not a pipe, which would have to be read meanwhile.
            self._errors = undo.enter_context((self._folder / "errors.txt").open("w+", encoding="utf-8", errors="replace"))
            self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors, text=True)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.communicate()
        self._undo.close()

    def compare(self, *, saved_model=None, onnx=None, tflite=None) -> dict:
        """Wait for the comparison; once in the block.

        Args:
            saved_model: a version's folder, or None.
            onnx: an fp32 file, or None.
            tflite: a file of `tflite_size`, or None; it gives masks only.

        Returns:
            `artefacts`: per artefact its path, the number of images and pixels compared, of pixels that differ within the
            error, and the largest score difference; and how the check was made.

        Raises:
            ExportError: an artefact breaks the rule (the message names artefact, image, pixel, labels, margin and bound), or
                cannot be loaded or run.
        """
        artefacts = {"saved_model": saved_model, "onnx": onnx, "tflite": tflite}
        self._process.communicate(json.dumps({kind: None if path is None else str(Path(path).resolve()) for kind, path in artefacts.items()}))
        answer = self._folder / "answer.json"
        if not answer.is_file():
            self._errors.seek(0)
            raise ExportError(f"parity check stopped with exit code {self._process.returncode}: {self._errors.read().strip()[-2000:]}")
        result = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in result:
            raise ExportError(result["error"])
        return result


def check_parity(weights, *, normalization: Normalization, saved_model=None, onnx=None, tflite=None, output=None, **settings) -> dict:
    """`ParityCheck` of artefacts that exist already.

    Args:
        weights, normalization, settings: see `ParityCheck`.
        saved_model, onnx, tflite: see `ParityCheck.compare`.
        output: where to write the result as JSON; it is written only when the check passes.

    Returns, raises:
        As `ParityCheck.compare`.
    """
    if output is not None:
        Path(output).unlink(missing_ok=True)  # an earlier result says nothing about these artefacts
    with ParityCheck(weights, normalization=normalization, **settings) as parity:
        result = parity.compare(saved_model=saved_model, onnx=onnx, tflite=tflite)
    if output is not None:
        write_json(output, result)
    return result
