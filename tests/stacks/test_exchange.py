"""Weights and exports of the two stacks against each other; the other stack's Python is named by TFWSSS_OTHER_PYTHON."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfwsss import stack

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).parent / "exchange.py"
OTHER = "TFWSSS_OTHER_PYTHON"


def run(python: str, *arguments) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([python, str(DRIVER), *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """{(who wrote the weights, who answers): arrays}, with "this" stack and the "other"."""
    other = os.environ.get(OTHER)
    if not other:
        pytest.skip(f"{OTHER} names no Python of the other stack: make install install-addons test")
    assert Path(other).is_file(), f"{OTHER}: {other} does not exist"
    folder = tmp_path_factory.mktemp("exchange")
    pythons = {"this": sys.executable, "other": other}
    weights = {writer: folder / f"{writer}.safetensors" for writer in pythons}
    for writer, python in pythons.items():
        run(python, "save", weights[writer])
    for python in pythons.values():
        run(python, "answer", *weights.values())
    names = {"this": stack.NAME, "other": ({"keras3", "addons"} - {stack.NAME}).pop()}
    return {(writer, reader): dict(np.load(f"{weights[writer]}.{names[reader]}.npz")) for writer in pythons for reader in pythons}


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["this", "other"])
@pytest.mark.parametrize("name", ["keras", "saved_model_scores", "onnx_scores"])
def test_both_stacks_give_the_same_scores(answers, writer, name):
    expected, found = answers[writer, "this"][name], answers[writer, "other"][name]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["this", "other"])
def test_saved_model_and_onnx_agree_across_the_stacks(answers, writer):
    np.testing.assert_allclose(answers[writer, "other"]["onnx_scores"], answers[writer, "this"]["saved_model_scores"], rtol=0, atol=1e-5)
    for file in ("saved_model_mask", "onnx_mask"):
        assert (answers[writer, "other"][file] == answers[writer, "this"][file]).mean() > 0.999


@pytest.mark.slow
def test_augmentations_agree(answers):
    """tensorflow-addons cuts smoothed levels off where Pillow rounds: up to two grey levels of sharpness."""
    this, other = answers["this", "this"], answers["this", "other"]
    np.testing.assert_allclose(this["warped"], other["warped"], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(this["warped_label"], other["warped_label"])
    np.testing.assert_array_equal(this["cut_out"], other["cut_out"])
    difference = np.abs(this["sharpened"].astype(int) - other["sharpened"].astype(int))
    assert difference.max() <= 2 and (difference == 0).mean() > 0.4
