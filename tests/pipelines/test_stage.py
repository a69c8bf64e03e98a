"""Fingerprints and the runner, with stages that only count their calls."""

import json

import pytest

from pipelines import runner as runner_module
from pipelines import stage as stage_module
from pipelines.runner import Runner
from pipelines.stage import Stage, fingerprint
from tfwsss.config_files import parse_config
from tfwsss.errors import StageError


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
        Stage("data", step("data"), data=("files",), settings=("data",)),
        Stage("first", step("first"), data=("train",), settings=("classifier.epochs",)),
        Stage("second", step("second"), needs=("first",), data=("train",), settings=("cams",)),
        Stage("third", step("third"), needs=("second",), settings=("evaluate.flip",)),
    ]


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    monkeypatch.setattr("pipelines.data.file_signatures", lambda config, work: {"files": "f"})


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


def test_unknown_stage_and_wrong_order(config, calls):
    with pytest.raises(StageError, match="no stage 'fourth'; the stages are data, first, second, third"):
        Runner(make_stages(calls), config).run(first="fourth")
    with pytest.raises(StageError, match="--from third comes after --until first"):
        Runner(make_stages(calls), config).run(first="third", last="first")


def test_two_runs_cannot_share_a_work_directory(config, calls):
    runner = Runner(make_stages(calls), config)
    with runner_module._only_one(runner.work), pytest.raises(StageError, match="another tfwsss process"):
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
    from pipelines.stages import STAGES

    known: list[str] = []
    for stage in STAGES:
        assert set(stage.needs) <= set(known)
        stage_module.settings_of(stage, config)
        for module in stage.code:
            stage_module.code_digest(module)
        known.append(stage.name)
