"""benchmarks/gpu.sh on a machine without a GPU, in small form."""

import os
import subprocess
import sys

import pytest

from tests.markdown import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    words = [sys.executable, str(ROOT / "benchmarks/gpu/models.py"), str(folder), "--backbone", "mobilenet", "--width", "0.25", "--size", "48x64"]
    subprocess.run(words, check=True, capture_output=True, text=True)
    return folder


def test_everything_runs_on_a_processor_and_says_so(folder):
    words = ["sh", str(ROOT / "benchmarks/gpu.sh"), str(folder), "--small", "--batch", "1", "2", "--seconds", "0.05", "--side", "64"]
    done = subprocess.run(words, env=os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "**Measured on a processor, not on a GPU.**" in done.stdout
    rows = {tuple(cell.strip() for cell in line.split("|")[1:3]): line.split("|")[3].strip() for line in done.stdout.splitlines() if line.startswith("| ")}
    assert ("CPU, no GPU", "how") in rows
    for precision in ("fp32", "fp16"):
        assert rows[f"matrix product {precision}", "64 x 64, ONNX Runtime"].endswith("TFLOP/s")
        for batch in (1, 2):
            for way in ("copies", "I/O binding"):
                assert rows[f"ONNX Runtime {precision}, batch {batch}", way].endswith("% of the matrix rate")
        assert "Conv (CPU) " in rows[f"operations of {precision}, batch 1", "each waited for"]
    assert rows["`device=cuda` without a GPU", "GPUs hidden by CUDA_VISIBLE_DEVICES"] == "refused"
    assert rows["masks of fp32", "2 photos, against fp32 on the processor"] == "100.000 % of the pixels equal"
    assert rows["HTTP service fp32, 2 clients", "photos of 48x64 as JPEG"].endswith(" 0 errors")
    assert rows["TensorRT fp16, batch 1", ""] == "not on a processor"
    assert [figure.split()[-1] for (what, _), figure in rows.items() if what.startswith("TensorFlow")] == ["photos/s", "ms", "crops/s"]


def test_without_tensorflows_gpu_nothing_is_measured_instead():
    words = [sys.executable, str(ROOT / "benchmarks/gpu/training.py"), "--device", "cuda"]
    done = subprocess.run(words, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True)
    assert done.returncode == 1 and "TensorFlow finds no GPU it can use" in done.stderr and not done.stdout
