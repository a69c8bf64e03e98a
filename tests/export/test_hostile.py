"""The hostile corpus against `serve_bytes`: a typed error or the mask of what training reads, little memory, no crash."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tfwsss.export import export_saved_model
from tfwsss.normalization import TORCH

ROOT = Path(__file__).parents[2]
MEMORY_CAP = 400_000_000  # bytes above what the loaded model takes


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_every_hostile_file_is_refused_or_segmented(tiny_model, tmp_path):
    folder = export_saved_model(tiny_model, tmp_path, class_names=("cat", "dog", "horse"), normalization=TORCH)
    done = subprocess.run([sys.executable, "-m", "tests.export.hostile_driver", str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    assert result["refused"] >= 100 and result["served"] >= 100
    assert result["memory"] < MEMORY_CAP
