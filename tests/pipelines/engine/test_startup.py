"""The start of TensorFlow leaves out what nothing here needs, and only then."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_packages_for_others_wait_until_somebody_wants_them():
    code = """
import sys
from tfwsss_pipelines.engine.startup import load_tensorflow
load_tensorflow()
assert {"tensorflow", "keras"} <= set(sys.modules)
assert not {"pandas", "sklearn", "matplotlib"} & set(sys.modules)
import matplotlib.pyplot, pandas, sklearn
from keras import layers
layers.Dense(2)(__import__("numpy").zeros((1, 3)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "start-up messages"
