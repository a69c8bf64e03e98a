"""The fully supervised twin: the same pipeline, learning from masks."""

import json

import pytest
import yaml

from tests.pipelines.conftest import TINY
from tfwsss.config.files import parse_config
from tfwsss_pipelines.stages.order import STAGES, stages_for


def config(**segmenter):
    return parse_config({"data": {"format": "scenes", "strong_masks": "exact"}, "segmenter": {"labels": "masks", **segmenter}})


def names(stages):
    return [stage.name for stage in stages]


def test_stages_that_only_make_labels_are_left_out():
    assert names(stages_for(config(labels="pseudo"))) == names(STAGES)
    assert names(stages_for(config())) == ["data", "segmenter", "evaluate", "export", "report"]
    with_start = stages_for(config(model={"weights": "classifier"}))
    assert names(with_start) == ["data", "classifier", "segmenter", "evaluate", "export", "report"]
    assert with_start[2].needs == ("classifier",)


def test_what_is_left_needs_nothing_that_is_not_there():
    for weights in (None, "classifier"):
        known = set()
        for stage in stages_for(config(model={"weights": weights})):
            assert set(stage.needs) <= known
            known.add(stage.name)


def test_only_what_learns_from_masks_depends_on_them():
    both = parse_config({"data": {"format": "scenes", "strong_masks": "exact"}, "affinitynet": {"labels": "masks"}})
    dependent = {name for c in (config(), both) for name in names(stage for stage in stages_for(c) if "strong_masks" in stage.data)}
    assert dependent == {"segmenter", "affinitynet"}
    assert names(stages_for(both)) == names(STAGES)  # its background exponents still come from affinity_labels
    assert not any("strong_masks" in stage.data for stage in STAGES)


@pytest.mark.slow
def test_the_twin_runs_without_the_labelling_stages(tmp_path, cli):
    data = {**TINY["data"], "strong_masks": "exact"}
    twin = {**TINY, "data": data, "segmenter": {**TINY["segmenter"], "labels": "masks", "epochs": 1}, "export": {"precisions": ["fp32"]}}
    (tmp_path / "twin.yaml").write_text(yaml.safe_dump(twin))
    done = cli(tmp_path, "run", "twin.yaml", "--work-dir", "work")
    assert done.returncode == 0, done.stderr
    work = tmp_path / "work"
    assert not any((work / name).exists() for name in ("classifier", "cams", "affinity_labels", "affinitynet", "pseudo_labels", "label_scores"))
    rows = json.loads((work / "evaluate/table.json").read_text())["rows"]
    assert rows and {row["split"] for row in rows} == {"val"}
    assert "masks of exact, drawn by a person" in (work / "report/index.html").read_text()
    again = cli(tmp_path, "run", "twin.yaml", "--work-dir", "work")
    assert "segmenter: unchanged, reused" in again.stdout + again.stderr
    # Other masks are other labels.
    mask = sorted((work / "scenes/masks/train").glob("*.png"))[0]
    mask.write_bytes(sorted((work / "scenes/masks/train").glob("*.png"))[1].read_bytes())
    changed = cli(tmp_path, "run", "twin.yaml", "--work-dir", "work", "--until", "segmenter")
    assert "segmenter: unchanged, reused" not in changed.stdout + changed.stderr


@pytest.mark.slow
def test_affinitynet_may_learn_from_masks(tmp_path, cli):
    data = {**TINY["data"], "strong_masks": "exact"}
    short = {name: {**TINY[name], "epochs": 1} for name in ("classifier", "affinitynet")}
    values = {**TINY, **short, "data": data}
    values["affinitynet"]["labels"] = "masks"
    (tmp_path / "bound.yaml").write_text(yaml.safe_dump(values))
    done = cli(tmp_path, "run", "bound.yaml", "--work-dir", "work", "--until", "pseudo_labels")
    assert done.returncode == 0, done.stderr
    assert "labels: masks, which 6 of 6 photos have" in done.stdout + done.stderr
