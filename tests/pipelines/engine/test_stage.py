"""Fingerprints and the runner, with stages that only count their calls."""

import contextlib
import json
from dataclasses import replace

import pytest

from tfwsss.config.files import parse_config
from tfwsss.errors import StageError
from tfwsss_pipelines.engine import runner as runner_module
from tfwsss_pipelines.engine import stage as stage_module
from tfwsss_pipelines.engine.quarantine import Lost, PhotosLost, read_quarantine
from tfwsss_pipelines.engine.runner import Runner
from tfwsss_pipelines.engine.stage import Stage, fingerprint


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return parse_config({"data": {"format": "scenes"}, "work_dir": str(tmp_path / "work")})


@pytest.fixture
def calls():
    return []


def make_stages(calls, fail=()):
    def step(name):
        def run(context):
            calls.append(name)
            if name == "data":
                (context.folder("data") / "digests.json").write_text(json.dumps({"train": "t"}))
            if name in fail:
                raise StageError(f"{name} broke")
            (context.folder(name) / "result").write_text("x")
            return {"images": 1}

        return run

    return [
        Stage("data", step("data"), data=("files",), signatures=lambda config, work: {"files": "f"}, settings=("data",)),
        Stage("first", step("first"), data=("train",), settings=("classifier.epochs",)),
        Stage("second", step("second"), needs=("first",), data=("train",), settings=("cams",)),
        Stage("third", step("third"), needs=("second",), settings=("evaluate.flip",)),
    ]


def change(config, dotted, value):
    values = config.model_dump(mode="json")
    *path, last = dotted.split(".")
    section = values
    for part in path:
        section = section[part]
    section[last] = value
    return parse_config(values)


def test_runs_in_order_then_reuses_everything(config, calls):
    Runner(make_stages(calls), config).run()
    assert calls == ["data", "first", "second", "third"]
    Runner(make_stages(calls), config).run()
    assert calls == ["data", "first", "second", "third"]


@pytest.mark.parametrize(
    ("field", "value", "rerun"),
    [
        ("classifier.epochs", 3, ["first", "second", "third"]),
        ("cams.flip", False, ["second", "third"]),
        ("evaluate.flip", False, ["third"]),
        ("runtime.workers", 1, []),
        ("segmenter.epochs", 3, []),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_those_behind(config, calls, field, value, rerun):
    Runner(make_stages(calls), config).run()
    calls.clear()
    Runner(make_stages(calls), change(config, field, value)).run()
    assert calls == rerun


def test_old_results_are_removed_before_a_stage_runs_anew(config, calls):
    work = Runner(make_stages(calls), config).run()
    (work / "second" / "stale").write_text("x")
    Runner(make_stages(calls), change(config, "cams.flip", False)).run()
    assert not (work / "second" / "stale").exists()
    assert (work / "first" / "result").exists()


def test_an_unfinished_stage_keeps_its_files_and_its_mlflow_run(config, calls):
    with pytest.raises(StageError, match="second broke"):
        Runner(make_stages(calls, fail=("second",)), config).run()
    work = config.work_dir
    (work / "second" / "partial").write_text("x")
    run_id = json.loads((work / "second" / "stage.json").read_text())["run_id"]
    calls.clear()
    Runner(make_stages(calls), config).run()
    assert calls == ["second", "third"]
    assert (work / "second" / "partial").exists()
    assert json.loads((work / "second" / "stage.json").read_text())["run_id"] == run_id

    from mlflow.tracking import MlflowClient

    run = MlflowClient().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["tfwsss.stage"] == "second"
    parent = MlflowClient().get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FAILED"  # the pipeline's run in which it began


def test_every_stage_is_a_child_run_with_its_settings_and_fingerprint(config, calls):
    from mlflow.tracking import MlflowClient

    work = Runner(make_stages(calls), config).run()
    client = MlflowClient()
    for name in ("first", "second"):
        record = json.loads((work / name / "stage.json").read_text())
        run = client.get_run(record["run_id"])
        assert run.data.tags["tfwsss.fingerprint"] == record["fingerprint"]
        assert run.data.metrics["images"] == 1
    assert client.get_run(record["run_id"]).data.params["cams.flip"] == "True"


def test_from_needs_finished_predecessors(config, calls):
    with pytest.raises(StageError, match="stage data has not finished: run it first"):
        Runner(make_stages(calls), config).run(first="second")
    Runner(make_stages(calls), config).run(last="first")
    calls.clear()
    Runner(make_stages(calls), config).run(first="second", last="second")
    assert calls == ["second"]
    with pytest.raises(StageError, match="stage first has changed settings"):
        Runner(make_stages(calls), change(config, "classifier.epochs", 3)).run(first="second")


def test_force_runs_the_selected_stages_anew(config, calls):
    Runner(make_stages(calls), config).run()
    calls.clear()
    Runner(make_stages(calls), config).run(first="second", last="second", force=True)
    assert calls == ["second"]


@pytest.fixture
def change_code(tmp_path, monkeypatch):
    """Let the stage `second` run other code."""
    monkeypatch.syspath_prepend(tmp_path)

    def change(number: int, stages: list[Stage]) -> list[Stage]:
        (tmp_path / "changing_module.py").write_text(f"x = {number}\n")
        stage_module.code_digest.cache_clear()
        return [replace(stage, code=("changing_module",)) if stage.name == "second" else stage for stage in stages]

    yield change
    stage_module.code_digest.cache_clear()


def test_other_code_runs_a_stage_anew_unless_any_code_will_do(config, calls, change_code, capsys):
    Runner(change_code(1, make_stages(calls)), config).run()
    calls.clear()
    changed = change_code(2, make_stages(calls))
    with pytest.raises(StageError, match="stage second was made by other code, .* or take it as it is with --any-code"):
        Runner(changed, config).run(first="third")
    Runner(changed, config).run(any_code=True)
    Runner(changed, config).run(first="third", any_code=True)
    assert calls == []
    # Only code may differ.
    Runner(changed, change(config, "evaluate.flip", False)).run(any_code=True)
    assert calls == ["third"]
    calls.clear()
    with pytest.raises(StageError, match="stage second has changed settings"):
        Runner(changed, change(config, "cams.flip", False)).run(first="third", any_code=True)
    capsys.readouterr()
    Runner(changed, config).run()
    assert calls == ["second", "third"] and "second: made by other code, runs anew" in capsys.readouterr().err


def test_a_stage_that_other_code_began_goes_on_with_any_code(config, calls, change_code):
    with pytest.raises(StageError, match="second broke"):
        Runner(change_code(1, make_stages(calls, fail=("second",))), config).run()
    partial = config.work_dir / "second" / "partial"
    partial.write_text("x")
    changed = change_code(2, make_stages(calls))
    Runner(changed, config).run(last="second", any_code=True)
    assert partial.exists()
    Runner(changed, config).run()  # what two versions made together is not this version's
    assert not partial.exists()


def test_force_makes_a_stage_with_the_present_code(config, calls, change_code):
    Runner(change_code(1, make_stages(calls)), config).run()
    changed = change_code(2, make_stages(calls))
    Runner(changed, config).run(first="second", last="second", force=True, any_code=True)
    calls.clear()
    Runner(changed, config).run(last="second")
    assert calls == []


def test_unknown_stage_and_wrong_order(config, calls):
    with pytest.raises(StageError, match="no stage 'fourth'; the stages are data, first, second, third"):
        Runner(make_stages(calls), config).run(first="fourth")
    with pytest.raises(StageError, match="--from third comes after --until first"):
        Runner(make_stages(calls), config).run(first="third", last="first")


def test_two_runs_cannot_share_a_work_directory(config, calls):
    runner = Runner(make_stages(calls), config)
    with runner_module.only_one(runner.work), pytest.raises(StageError, match="another tfwsss process"):
        runner.run()


def test_fingerprint_covers_code_but_not_comments(config, tmp_path, monkeypatch):
    (tmp_path / "some_module.py").write_text('"""Doc."""\nx = 1  # why\n')
    monkeypatch.syspath_prepend(tmp_path)
    stage = Stage("s", lambda context: None, code=("some_module",))
    before = fingerprint(stage, config, {}, {})
    for text, same in [('"""Other doc."""\n\nx = 1\n', True), ("x = 2\n", False)]:
        (tmp_path / "some_module.py").write_text(text)
        stage_module.code_digest.cache_clear()
        assert (fingerprint(stage, config, {}, {}) == before) is same


def test_real_stages_name_existing_settings_modules_and_predecessors(config):
    from tfwsss_pipelines.stages.order import STAGES

    known: list[str] = []
    for stage in STAGES:
        assert set(stage.needs) <= set(known)
        stage_module.settings_of(stage, config)
        for module in stage.code:
            stage_module.code_digest(module)
        known.append(stage.name)


@pytest.mark.parametrize("fail", [(), ("second",)])
def test_what_a_command_keeps_ends_with_the_command(config, calls, fail):
    opened = []

    @contextlib.contextmanager
    def opening(number):
        opened.append(number)
        try:
            yield opened
        finally:
            calls.append("closed")

    def using(stage):
        def run(context):
            assert context.command.kept(opening, 3) == [3]
            return stage.run(context)

        return replace(stage, run=run)

    data, first, second, third = make_stages(calls, fail=fail)
    with pytest.raises(StageError) if fail else contextlib.nullcontext():
        Runner([data, using(first), using(second), third], config).run()
    assert opened == [3]
    assert calls == ["data", "first", "second", *([] if fail else ["third"]), "closed"]


def test_photos_that_killed_their_workers_are_part_of_what_later_stages_depend_on(config, calls, tmp_path, capsys):
    deadly = [Lost("b", "/photos/b.jpg", "killed 3 workers"), Lost("c", "/photos/c.jpg", "killed 3 workers")]
    opened = []

    class Opened(contextlib.AbstractContextManager):
        def __init__(self, context):
            self.closed = False
            opened.append(self)

        def __exit__(self, *error):
            self.closed = True

    data, first, *others = make_stages(calls)

    def losing(context):
        if deadly:
            context.kept(Opened)
            context.kept(Opened)
            raise PhotosLost([deadly.pop()])
        return first.run(context)

    stages = [data, replace(first, run=losing), *others]
    Runner(stages, config).run()
    assert calls == ["data", "first", "second", "third"]
    assert len(opened) == 2 and all(one.closed for one in opened)
    record = json.loads((tmp_path / "work/first/stage.json").read_text())
    assert record["finished"] and record["metrics"] == {"images": 1, "quarantined": 2}
    assert [photo.id for photo in read_quarantine(tmp_path / "work/first")] == ["c", "b"]
    assert "2 photos killed their workers and were left out" in capsys.readouterr().err

    calls.clear()
    Runner(stages, config).run()
    assert calls == []
    (tmp_path / "work/first/quarantine.csv").unlink()
    Runner(stages, config).run()
    assert calls == ["first", "second", "third"]
