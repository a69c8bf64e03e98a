"""Photos side by side with their dense CRF."""

import os
import threading
import time

import pytest

from tfwsss.config import Crf
from tfwsss_pipelines.stages import refinement
from tfwsss_pipelines.stages.refinement import map_photos, prepare_crf

PYDENSECRF = Crf.model_construct(engine="pydensecrf")  # not validated: it need not be installed here


@pytest.mark.parametrize("crf", [Crf(), None])
def test_threads_are_enough_for_our_own_engine(crf):
    together = threading.Barrier(3)

    def name(index):
        together.wait(60)  # three at a time, or never
        time.sleep(0.01 * (5 - index))
        return index, os.getpid()

    assert list(map_photos(name, ((index,) for index in range(6)), 3, crf)) == [(index, os.getpid()) for index in range(6)]


def test_an_engine_with_the_global_lock_gets_processes():
    found = set(map_photos(os.getpid, [()] * 4, 2, PYDENSECRF))
    assert found and os.getpid() not in found


@pytest.mark.parametrize(("seconds", "words"), [(12.3, "dense CRF compiled in 12 s, once per installation"), (0.0, "")])
def test_the_user_is_told_of_a_compilation(monkeypatch, capsys, seconds, words):
    monkeypatch.setattr(refinement, "compile_engine", lambda engine: seconds)
    prepare_crf(Crf())
    shown = capsys.readouterr().err
    assert words in shown and bool(shown.strip()) == bool(words)


def test_without_a_crf_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(refinement, "compile_engine", lambda engine: pytest.fail("compiled"))
    prepare_crf(None)
