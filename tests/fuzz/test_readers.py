"""A brief run of the fuzzer with a fixed seed; `python -m tests.fuzz.run --seconds 3600` is the long one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_file_does_harm(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz.run", "--files", "60", "--seconds", "300", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("annotations.xml", "corrected.xml", "corrected_brushes.json", "corrected_instances.json", "label_studio.json", "fiftyone.json", "train.tfrecord", "metadata.csv", "torch.pth", "cls_labels.npy", "mxnet.params", "caffe.caffemodel", "plain.safetensors", "recipe.safetensors", "numpy.npz", "keras.weights.h5", "old.h5"):
        assert f"{name}: " in done.stdout
