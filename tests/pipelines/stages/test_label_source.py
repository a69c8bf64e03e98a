"""Which labels the segmenter learns: the user's choice, or that of the tags."""

import numpy as np
import pytest

from tests.test_switches import Run, make_context
from tfwsss.storage.artifacts import artifact_path, load_label, save_label, save_walk
from tfwsss_pipelines.stages import pseudo_labels
from tfwsss_pipelines.stages.label_source import NORMALISED, PLAIN, label_source


def with_votes(folder, lost=(), **settings):
    """A finished walk of three photos: cat, dog, cat. The class has vanished from the plain votes of the `lost` ones."""
    context = make_context(folder, **settings)
    context.run = Run()
    for number, sample in enumerate(context.dataset("train").samples):
        artifact_path(folder / "pseudo_labels", sample.id, ".png").unlink()
        shape = context.dataset("train").read(sample).shape[:2]
        save_walk(folder / "walk", sample.id, sample.tags, np.ones((2, 8, 8), np.float32))
        save_label(folder / PLAIN, sample.id, np.full(shape, 0 if number in lost else sample.tags[0] + 1, np.uint8))
        save_label(folder / NORMALISED, sample.id, np.full(shape, sample.tags[0] + 1, np.uint8))
    return context


@pytest.mark.parametrize("lost, expected, kept", [((), "walk", 1.0), ((0,), "walk", 0.75), ((1,), "walk", 0.5), ((0, 1), "confident", 0.25), ((0, 1, 2), "confident", 0.0)])
def test_the_walk_as_long_as_it_keeps_half_of_the_tags(tmp_path, capsys, lost, expected, kept):
    assert label_source(with_votes(tmp_path, lost)) == (expected, {"walk_kept": kept})
    said = " ".join(capsys.readouterr().err.split())
    assert f"the walk keeps {100 * kept:.0f} % of the tags: the segmenter learns {'its' if expected == 'walk' else 'the confident'} labels" in said


@pytest.mark.parametrize("settings, expected", [
    ({"pseudo_labels": {"source": "walk"}}, "walk"),
    ({"pseudo_labels": {"source": "confident"}}, "confident"),
    ({"switches": {"label_tags": "faithful"}}, "walk"),
])
def test_what_is_set_is_not_asked_again(tmp_path, settings, expected):
    assert label_source(with_votes(tmp_path, (0, 1, 2), **settings)) == (expected, {})


@pytest.mark.parametrize("smallest_share, kept", [(0.01, True), (0.9, False)])
def test_confident_labels_become_pseudo_labels(tmp_path, capsys, smallest_share, kept):
    context = with_votes(tmp_path, pseudo_labels={"source": "confident", "smallest_share": smallest_share})
    metrics = pseudo_labels.run(context)
    assert metrics["left_out"] == (0 if kept else 3) and metrics["computed"] == 0
    said = " ".join(capsys.readouterr().err.split())
    small = "dog: 1 of 1 labels lack it, less than 0.9 of the pixels; if its objects are so small, lower pseudo_labels.smallest_share"
    assert (small in said) is not kept
    for sample in context.dataset("train").samples:
        confident, found = (load_label(tmp_path / folder, sample.id) for folder in ("affinity_labels", "pseudo_labels"))
        assert len(np.unique(confident)) > 2
        np.testing.assert_array_equal(found, confident if kept else np.full_like(confident, 255))


def test_finished_votes_become_labels_without_a_walk(tmp_path):
    walked = pseudo_labels.run(with_votes(tmp_path, (0,)))
    assert walked["walk_kept"] == 0.75 and walked["walked"] == 0
    assert (load_label(tmp_path / "pseudo_labels", "photo0") == 1).all()  # the normalised vote, as the plain one has lost the class


def test_labels_of_the_other_source_do_not_stay(tmp_path):
    context = with_votes(tmp_path)
    pseudo_labels.run(context)
    path = artifact_path(tmp_path / "pseudo_labels", "photo2", ".png")
    before = path.stat().st_mtime_ns
    pseudo_labels.run(context)
    assert path.stat().st_mtime_ns == before  # what is right is not written again
    for sample in context.dataset("train").samples:
        save_label(tmp_path / PLAIN, sample.id, np.zeros_like(load_label(tmp_path / PLAIN, sample.id)))
    assert pseudo_labels.run(context)["walk_kept"] == 0
    for sample in context.dataset("train").samples:
        np.testing.assert_array_equal(*(load_label(tmp_path / folder, sample.id) for folder in ("affinity_labels", "pseudo_labels")))
