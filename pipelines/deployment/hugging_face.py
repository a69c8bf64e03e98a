"""A folder for the Hugging Face Hub, in export/bundle/hugging_face/: the exported files, their labels, a script and the model card."""

from __future__ import annotations

from pathlib import Path

from tfwsss.config import Config
from tfwsss.storage.atomic import write_json, write_text

from .exported import Exported, place
from .model_card import SCRIPT, model_card, read_facts, script

_FILES = ("model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.tflite")


def write_hugging_face(config: Config, work: Path, exported: Exported, target: Path) -> None:
    """Write the folder for a finished run; what an earlier bundle has left there of a kind that this export has not goes.

    Raises:
        StageError, DataError: a record of the run is missing or damaged.
    """
    files = [name for name in _FILES if (work / "export" / name).is_file()]
    card = model_card(config, read_facts(config, work), exported, files)
    for name in set(_FILES) - set(files):  # the folder is published as it is
        (target / name).unlink(missing_ok=True)
    for name in files:
        place(work / "export" / name, target / name)
    labels, palette = exported.metadata["labels"], exported.metadata["palette"]
    write_json(target / "labels.json", {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}, "palette": palette})
    write_text(target / SCRIPT, script(exported))
    write_text(target / "README.md", card)
