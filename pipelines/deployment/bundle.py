"""`tfwsss export --bundle`: what other programs need beside the exported files, in export/bundle/.

    .               TensorFlow Serving, see tf_serving.py
    triton/         NVIDIA's Triton Inference Server, see triton.py
    kserve/         KServe on Kubernetes, see kserve.py
    hugging_face/   a model card with the files, see hugging_face.py
"""

from __future__ import annotations

from pathlib import Path

from tfwsss.config import Config

from .exported import read_exported
from .hugging_face import write_hugging_face
from .kserve import write_kserve
from .tf_serving import saved_versions, version_labels, write_tf_serving
from .triton import write_triton

BUNDLE = "bundle"


def write_bundle(config: Config, work) -> Path:
    """Write export/bundle/ for a finished export; returns the folder. What is there is replaced file by file, earlier versions stay.

    Raises:
        ExportError: no version of the SavedModel is there, or not the one that `serving.stable` or `serving.canary` names, or no ONNX file.
    """
    work = Path(work)
    export, target = work / "export", work / "export" / BUNDLE
    labels = version_labels(config.serving, saved_versions(export / "saved_model"))
    exported = read_exported(export / "model.onnx")
    write_tf_serving(config.serving, export / "saved_model", target)
    write_triton(config, exported, labels.values(), target / "triton")
    write_kserve(config.serving, target / "kserve")
    write_hugging_face(config, work, exported, target / "hugging_face")
    return target
