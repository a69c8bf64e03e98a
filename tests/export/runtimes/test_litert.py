"""The exported .tflite file in LiteRT, Google's runtime, in a process of its own: it does not live beside TensorFlow's own in every release."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (extra `test`)")

from tfwsss.errors import ExportError  # noqa: E402
from tfwsss.export import check_parity, export_tflite  # noqa: E402
from tfwsss.export.parity import TOLERANCE  # noqa: E402
from tfwsss.export.parity_keras import Comparison, Reference, answer_cases, compare  # noqa: E402

SIZE = (65, 97)
RUN = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.stack([runner(images=image[None])["mask"][0] for image in images]))
assert not {"tensorflow", "keras", "tfwsss"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    segmenter = made("mobilenetv2")
    path = export_tflite(segmenter.model, tmp_path_factory.mktemp("tflite") / "model.tflite", size=SIZE, metadata={"licence": "CC0-1.0"}, **segmenter.arguments)
    return segmenter, path


def test_masks_are_those_of_keras(exported, photo, tmp_path):
    segmenter, path = exported
    images = np.stack([photo(*SIZE, seed) for seed in range(4)])
    np.save(tmp_path / "images.npy", images)
    done = subprocess.run([sys.executable, "-c", RUN, str(path), "images.npy", "masks.npy"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    comparison = Comparison("litert", TOLERANCE)
    comparison.masks("photos", Reference(segmenter.model, segmenter.arguments["normalization"], [1.0], False)(images)[0], np.load(tmp_path / "masks.npy"))
    assert comparison.result()["images"] == 4


def test_the_file_says_what_it_is(exported):
    with zipfile.ZipFile(exported[1]) as archive:
        described = json.loads(archive.read("metadata.json"))
    assert described["size"] == list(SIZE) and described["licence"] == "CC0-1.0"
    assert described["labels"] == ["background", *exported[0].arguments["class_names"]]


def test_it_passes_the_export_check(exported, photo, tmp_path):
    segmenter, path = exported
    Image.fromarray(photo(40, 90)).save(tmp_path / "photo.png")
    arguments = {"sizes": [(33, 47)], "batches": [1], "photos": [tmp_path / "photo.png"], "normalization": segmenter.arguments["normalization"]}
    result = check_parity(segmenter.weights, tflite=path, tflite_size=SIZE, **arguments)["artefacts"]
    assert list(result) == ["tflite"] and (result["tflite"]["images"], result["tflite"]["pixels"]) == (4, 4 * SIZE[0] * SIZE[1])


def checked(segmenter, path, folder) -> dict:
    """What the fresh process does, in this one."""
    fixed = {"sizes": [], "batches": [1], "photos": [], "tflite_size": SIZE, "long_side": None, "scales": [1.0], "flip": False, "tolerance": TOLERANCE}
    request = {"weights": str(segmenter.weights), "normalization": asdict(segmenter.arguments["normalization"]), "folder": str(folder), **fixed}
    return compare(request, answer_cases(request), {"saved_model": None, "onnx": None, "tflite": str(path)})


def test_another_networks_file_does_not(exported, made, tmp_path):
    with pytest.raises(ExportError, match=r"model.tflite: generated 65x97, image 0, pixel"):
        checked(made("resnet38"), exported[1], tmp_path)


def test_a_damaged_file_is_one_line(exported, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3 is not enough")
    with pytest.raises(ExportError, match="model.tflite: LiteRT does not load it"):
        checked(exported[0], tmp_path / "model.tflite", tmp_path)
