"""The SavedModel in a C++ program that knows TensorFlow's headers and libraries, as the wheel ships them, and nothing of Python."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfwsss.export import Inference, export_saved_model
from tfwsss.normalization import TORCH

SOURCE = Path(__file__).parent / "cpp/segment.cc"


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("cpp") / "segment"
    libraries = tf.sysconfig.get_lib()
    # The library with the sessions and kernels registers them when it is loaded; nothing refers to it by a symbol.
    link = [f"-L{libraries}", "-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{libraries}"]
    command = ["g++", "-w", *tf.sysconfig.get_compile_flags(), str(SOURCE), *link, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return target


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not (Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2").exists(), reason="this TensorFlow wheel has no libtensorflow_cc")
def test_a_cpp_program_gives_the_masks_of_the_definition(program, tiny_model, photo, tmp_path):
    folder = export_saved_model(tiny_model, tmp_path / "model", class_names=("cat", "dog", "horse"), normalization=TORCH)
    images = np.stack([photo(35, 47, seed) for seed in range(2)])
    (tmp_path / "images").write_bytes(images.tobytes())
    done = subprocess.run([str(program), str(folder), str(tmp_path / "images"), "35", "47", str(tmp_path / "mask")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["2", "35", "47"]
    mask = np.frombuffer((tmp_path / "mask").read_bytes(), np.uint8).reshape(2, 35, 47)
    np.testing.assert_array_equal(mask, Inference(tiny_model, TORCH).mask(tf.constant(images)))
    assert len(np.unique(mask)) > 1

    done = subprocess.run([str(program), str(tmp_path), "x", "1", "1", "y"], capture_output=True, text=True)
    assert done.returncode == 1 and "Could not find SavedModel" in done.stderr
