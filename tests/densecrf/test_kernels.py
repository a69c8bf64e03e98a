"""Inference: numbers, problems side by side, threads, and what is kept of a compilation."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from tfwsss_densecrf import Kernels
from tfwsss_densecrf.compiled import compiled


def problem(height, width, problems, labels, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return image, rng.uniform(0, 11, (problems, height, width, labels)).astype(np.float32)


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 8, 9, 21])
def test_without_steps_it_is_the_softmax(labels):
    rng = np.random.default_rng(labels)
    unary = (rng.integers(-400, 400, (2, 7, 9, labels)) / 8).astype(np.float32)  # differences are exact
    found = Kernels(np.zeros((7, 9, 3), np.uint8)).infer(unary, iterations=0)
    expected = softmax(-unary.astype(np.float64), axis=-1)
    # The smallest term that counts is exp(-60) of the largest.
    np.testing.assert_allclose(found, np.where(expected > 1e-25, expected, 0), rtol=1e-6, atol=1e-25)


@settings(max_examples=30, deadline=None)
@given(problems=st.integers(2, 9), labels=st.integers(2, 20), height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 99))
def test_problems_do_not_influence_each_other(problems, labels, height, width, seed):
    image, unary = problem(height, width, problems, labels, seed)
    kernels = Kernels(image)
    together = kernels.infer(unary, iterations=3)
    for index in range(problems):
        np.testing.assert_array_equal(together[index], kernels.infer(unary[index : index + 1], iterations=3)[0])


def test_threads_give_the_same_bits():
    photos = [problem(40 + index % 3, 50, 2, 3, index) for index in range(12)]

    def refine(photo):
        return Kernels(photo[0]).infer(photo[1])

    alone = [refine(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(refine, photos), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_global_lock_is_left_to_others():
    image, unary = problem(300, 400, 2, 3)
    kernels = Kernels(image)
    kernels.infer(unary, iterations=1)
    worker = threading.Thread(target=kernels.infer, args=(unary,), kwargs={"iterations": 20})
    turns = 0
    worker.start()
    while worker.is_alive():
        worker.join(0.001)
        turns += 1
    assert turns > 20  # one or two if the loop had to wait for the inference


PROGRAM = """
import hashlib, sys
import numpy as np
from tfwsss_densecrf import Kernels, compile_kernels
print(compile_kernels(), compile_kernels())
problem = np.load(sys.argv[1])
print(hashlib.sha256(Kernels(problem["image"]).infer(problem["unary"]).tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_it_is_compiled_once_and_every_processor_gives_the_same_bits(tmp_path):
    image, unary = problem(40, 51, 2, 3)
    np.savez(tmp_path / "problem.npz", image=image, unary=unary)

    def run(**variables):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **variables}
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "problem.npz")]
        *seconds, digest = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        return [float(number) > 0 for number in seconds], digest

    compiled_there, digest = run()
    assert compiled_there == [True, False]
    assert run() == ([False, False], digest)
    # The oldest processor of its kind: narrow vectors, and a cache of its own.
    assert run(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == ([True, False], digest)


def test_without_a_place_for_the_cache_it_compiles_in_memory(monkeypatch):
    njit = numba.njit

    def without_cache(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", without_cache)
    assert compiled(lambda x: x + 1)(2) == 3
