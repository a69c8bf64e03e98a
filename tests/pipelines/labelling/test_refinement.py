"""What is compiled before the progress bar, and what the user reads of it."""

import pytest

from tfwsss.config import Crf
from tfwsss_pipelines.labelling import refinement
from tfwsss_pipelines.labelling.refinement import prepare_crf


@pytest.mark.parametrize(("seconds", "words"), [(12.3, "dense CRF compiled in 12 s, once per installation"), (0.0, "")])
def test_the_user_is_told_of_a_compilation(monkeypatch, capsys, seconds, words):
    monkeypatch.setattr(refinement, "compile_engine", lambda engine: seconds)
    prepare_crf(Crf())
    shown = capsys.readouterr().err
    assert words in shown and bool(shown.strip()) == bool(words)


def test_without_a_crf_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(refinement, "compile_engine", lambda engine: pytest.fail("compiled"))
    prepare_crf(None)
