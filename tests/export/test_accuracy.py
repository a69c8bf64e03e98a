"""The budget of lower precisions, on masks that one of two files gets right by construction."""

import json

import numpy as np
import onnxruntime
import pytest

from tfwsss.errors import ExportError
from tfwsss.export import accuracy, check_accuracy, export_onnx
from tfwsss.normalization import TORCH


@pytest.fixture(scope="module")
def files(tiny_model, photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    arguments = {"class_names": ("cat", "dog", "horse"), "normalization": TORCH}
    photos = [photo(40, 56 + seed, seed) for seed in range(4)]
    export_onnx(tiny_model, folder / "fp32.onnx", **arguments)
    export_onnx(tiny_model, folder / "int8.onnx", precision="int8", outputs=("scores",), calibration_images=photos, **arguments)
    session = onnxruntime.InferenceSession(str(folder / "fp32.onnx"), providers=["CPUExecutionProvider"])
    labels = [session.run(None, {"images": image[None]})[0][0] for image in photos]
    for label in labels:
        label[:5] = 255  # counts for agreement, not for mIoU
    return folder / "fp32.onnx", folder / "int8.onnx", list(zip(photos, labels, strict=True))


def test_within_the_budget_the_result_is_written(files, tmp_path):
    fp32, int8, samples = files
    result = check_accuracy(fp32, [int8], iter(samples), budget=0.5, output=tmp_path / "int8.json")
    found = result["variants"]["int8"]
    assert result["reference"]["miou"] == 1.0 and result["images"] == 4
    assert 0.5 < found["miou"] < 1.0 and found["lost"] == pytest.approx(1.0 - found["miou"])
    assert 0.9 < found["agreement"] < 1.0
    assert json.loads((tmp_path / "int8.json").read_text()) == result


def test_many_photos_are_scored_in_groups(files, monkeypatch):
    fp32, int8, samples = files
    together = check_accuracy(fp32, [int8], samples, budget=0.5)
    monkeypatch.setattr(accuracy, "_TOGETHER", 3)
    assert check_accuracy(fp32, [int8], samples, budget=0.5) == together


def test_beyond_the_budget_it_is_an_error(files, tmp_path):
    fp32, int8, samples = files
    (tmp_path / "int8.json").write_text("{}")
    with pytest.raises(ExportError, match=r"int8\.onnx: mIoU 0\.\d+ on 4 photos, 1\.0000"):
        check_accuracy(fp32, [fp32, int8], samples, budget=1e-6, output=tmp_path / "int8.json")
    assert not (tmp_path / "int8.json").exists()


def test_a_better_variant_is_no_loss_and_nothing_to_compare_is_an_error(files):
    fp32, int8, samples = files
    assert check_accuracy(int8, [fp32], samples, budget=0.0)["variants"]["fp32"]["lost"] < 0
    unlabelled = [(image, np.full_like(label, 255)) for image, label in samples]
    for nothing in ([], unlabelled):
        with pytest.raises(ExportError, match="mIoU nan"):
            check_accuracy(fp32, [int8], nothing)
