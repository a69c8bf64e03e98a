"""A stage removes what it wrote, and nothing else: links, foreign folders, added and changed files, and inputs stay."""

import json
from dataclasses import replace

import pytest
import yaml
from PIL import Image

from tfwsss.config.files import config_files, load_config
from tfwsss.errors import StageError
from tfwsss_pipelines.engine.contents import Contents
from tfwsss_pipelines.engine.ownership import (
    FILES,
    RECORD,
    SET_ASIDE,
    clear,
    list_files,
    require_own_folders,
    write_record,
)
from tfwsss_pipelines.engine.runner import Runner
from tfwsss_pipelines.engine.stage import Stage
from tfwsss_pipelines.preflight.inputs import named_paths

STAGE = Stage("cams", run=None, outputs=("walk", "deep/er"), kept=("cams/kept",))


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def finish(work, **record):
    """The stage has finished with what is in its folders."""
    contents = Contents(work)
    write_record(STAGE, work, {"fingerprint": "f", "finished": True, **record})
    list_files(STAGE, work, contents, {})
    return contents


def test_an_unfinished_stage_is_cleared_but_for_what_it_keeps(tmp_path):
    write(tmp_path, "cams/a/1.npz", "cams/2.npz", "cams/kept/old", "walk/1.npz", "deep/er/1", "deep/other", "report/mine")
    write_record(STAGE, tmp_path, {"fingerprint": "f", "finished": False})
    clear(STAGE, tmp_path, Contents(tmp_path))
    assert files(tmp_path) == ["cams/kept/old", f"cams/{RECORD}", "deep/other", "report/mine"]
    assert not (tmp_path / "cams/a").exists()


def test_added_and_changed_files_and_links_of_a_finished_stage_are_set_aside(tmp_path, capsys):
    write(tmp_path, "cams/1.npz", "cams/2.npz", "walk/1.npz", "elsewhere/mine")
    contents = finish(tmp_path)
    write(tmp_path, "cams/thesis.tex", "walk/notes/a.txt", f"{SET_ASIDE}/cams/thesis.tex")
    (tmp_path / "cams/2.npz").write_text("corrected by hand")
    (tmp_path / "cams/link").symlink_to(tmp_path / "elsewhere")
    clear(STAGE, tmp_path, contents)
    assert files(tmp_path) == sorted(
        [f"cams/{RECORD}", "elsewhere/mine"]
        + [f"{SET_ASIDE}/{name}" for name in ("cams/2.npz", "cams/link", "cams/thesis.tex", "cams/thesis.tex.2", "walk/notes/a.txt")]
    )
    assert (tmp_path / SET_ASIDE / "cams/2.npz").read_text() == "corrected by hand"
    assert "set aside" in capsys.readouterr().err
    assert not json.loads((tmp_path / "cams" / RECORD).read_text())["finished"]


def test_a_clearing_that_was_interrupted_goes_on_by_the_same_list(tmp_path):
    write(tmp_path, "cams/1.npz", "cams/2.npz")
    contents = finish(tmp_path, finished=False, clearing=True)
    (tmp_path / "cams/1.npz").unlink()
    write(tmp_path, "cams/mine")
    clear(STAGE, tmp_path, contents)
    assert files(tmp_path) == [f"cams/{RECORD}", f"{SET_ASIDE}/cams/mine"]


def test_the_list_vouches_for_a_stage_whose_record_was_removed(tmp_path):
    write(tmp_path, "cams/1.npz")
    contents = finish(tmp_path)
    (tmp_path / "cams" / RECORD).unlink()
    write(tmp_path, "cams/mine")
    require_own_folders([STAGE], tmp_path)
    clear(STAGE, tmp_path, contents)
    assert files(tmp_path) == [f"cams/{RECORD}", f"{SET_ASIDE}/cams/mine"]


@pytest.mark.parametrize("name", ["cams", "walk", "deep", "deep/er"])
def test_a_link_at_the_place_of_a_folder_is_refused(tmp_path, name):
    write(tmp_path / "elsewhere", "mine", "er/mine")
    work = tmp_path / "work"
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StageError, match=f"work/{name}: is a link"):
        require_own_folders([STAGE], work)
    assert files(tmp_path / "elsewhere") == ["er/mine", "mine"]


@pytest.mark.parametrize("record", [None, "{", "[]", '{"name": "a record of another program"}'])
def test_a_folder_without_a_record_of_ours_is_refused(tmp_path, record):
    write(tmp_path, "walk/mine" if record is None else "cams/mine")
    if record is not None:
        (tmp_path / "cams" / RECORD).write_text(record)
    for call in (lambda: require_own_folders([STAGE], tmp_path), lambda: clear(STAGE, tmp_path, Contents(tmp_path))):
        with pytest.raises(StageError, match="walk: holds files that stage cams did not write, such as mine|cams/stage.json: damaged"):
            call()
    assert any(name.endswith("/mine") for name in files(tmp_path))


def test_a_file_at_the_place_of_a_folder_is_refused(tmp_path):
    write(tmp_path, "walk")
    with pytest.raises(StageError, match="walk: is a file"):
        require_own_folders([STAGE], tmp_path)


def test_contents_notice_a_change_that_keeps_size_and_time(tmp_path):
    import os

    path = tmp_path / "photo"
    path.write_bytes(b"one")
    contents = Contents(tmp_path)
    before = contents.digests([path])[path]
    contents.save()
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Contents(tmp_path).digests([path])[path] != before
    (tmp_path / ".contents.json").write_text("[")  # only a memory
    assert Contents(tmp_path).digests([path])[path] != before
    os.mkfifo(tmp_path / "fifo")
    assert Contents(tmp_path).digests([tmp_path / "fifo", tmp_path / "absent", tmp_path]) == dict.fromkeys([tmp_path / "fifo", tmp_path / "absent", tmp_path])


# ------------------------------------------------------------------------------------------------ whole runs


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with photos in data/photos, and a function that runs stages in some work directory there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store/mlflow.db")
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "data/photos"
    (photos / "masks").mkdir(parents=True)
    for name in "ab":
        Image.effect_noise((40, 40), 60).convert("RGB").save(photos / f"{name}.jpg")
        Image.new("L", (40, 40)).save(photos / f"masks/{name}.png")
    (photos / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,dog\n")
    write(tmp_path, "report/thesis.tex", ".lock", "mlflow.db.lock")

    def run(config: dict, last: str | None = "data", name: str = "config.yaml"):
        from tfwsss_pipelines.stages.order import STAGES

        (tmp_path / name).write_text(yaml.safe_dump(config))
        return Runner(STAGES, load_config(name), config_files(name)).run(last=last)

    run.folder = tmp_path
    return run


FOLDER = {"format": "folder", "root": "data/photos", "mask_folder": "masks"}
COCO = {"format": "coco", "train_json": "data/photos/t.json", "train_images": "data/photos"}


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"work_dir": ".", "data": FOLDER}, "data.root"),
        ({"work_dir": ".", "data": {**FOLDER, "root": "data"}}, "data.root"),
        ({"work_dir": ".", "data": {**FOLDER, "root": ".", "train_csv": "data/photos/tags.csv", "mask_folder": None}}, "data.train_csv"),
        ({"work_dir": "runs/x", "data": {**FOLDER, "root": "runs/x/data"}}, "data.root"),
        ({"work_dir": "runs/x", "data": {**FOLDER, "root": "runs/x/walk/y"}}, "data.root"),
        ({"work_dir": "runs/x", "data": {**FOLDER, "root": "link/photos"}}, "data.root"),
        ({"work_dir": "runs/x", "data": {**FOLDER, "mask_folder": "../../runs/x/report/masks"}}, "data.mask_folder"),
        ({"work_dir": "runs/x", "data": {**FOLDER, "train_csv": "../../runs/x/cams/tags.csv"}}, "data.train_csv"),
        ({"work_dir": ".", "data": COCO}, "data.train_json"),
        ({"work_dir": "runs/x", "data": FOLDER, "segmenter": {"model": {"weights": "runs/x/export/w.safetensors"}}}, "segmenter.model.weights"),
        ({"work_dir": "runs/x", "data": FOLDER, "affinitynet": {"model": {"weights": "runs/x/classifier/weights.safetensors"}}}, "affinitynet.model.weights"),
        ({"work_dir": "runs/x", "data": FOLDER, "extends": "runs/x/report/base.yaml"}, "configuration"),
        ({"work_dir": "runs/x", "data": {"format": "scenes"}, "classifier": {"model": {"weights": "runs/x/scenes/w.h5"}}}, "classifier.model.weights"),
    ],
)
def test_an_input_in_a_folder_that_a_run_clears_is_refused_before_anything_is_touched(project, config, names):
    folder = project.folder
    work = folder / config["work_dir"]
    if config["work_dir"] != ".":
        for place in ("data", "walk/y"):
            (work / place).parent.mkdir(parents=True, exist_ok=True)
        for source, target in (("data/photos", work / "data"), ("data/photos", work / "walk/y"), ("data/photos/masks", work / "report/masks")):
            import shutil

            shutil.copytree(folder / source, target)
        write(work, "cams/tags.csv", "export/w.safetensors", "classifier/weights.safetensors", "scenes/w.h5")
        (work / "report/base.yaml").write_text("seed: 1\n")
        for stage in ("data", "walk", "cams", "export", "classifier", "report", "pseudo_labels"):  # all are the run's own
            (work / stage).mkdir(exist_ok=True)
            (work / stage / RECORD).write_text('{"fingerprint": "f", "finished": false}')
    (folder / "link").symlink_to(work / "data")
    (work / "data/photos").mkdir(exist_ok=True)
    before = {name: (folder / name).read_bytes() for name in files(folder) if (folder / name).is_file()}
    with pytest.raises(StageError, match=names):
        project(config)
    after = {name: (folder / name).read_bytes() for name in files(folder) if (folder / name).is_file() and name != "config.yaml"}
    assert after == before


def test_the_store_of_mlflow_is_an_input(project, monkeypatch):
    folder = project.folder
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (folder / "runs/x/report").mkdir(parents=True)
    monkeypatch.chdir(folder / "runs/x/report")
    config = load_config("demo-scenes", [f"work_dir={folder}/runs/x"])
    assert ("MLflow's store", folder / "runs/x/report/mlflow.db") in [(name, path.absolute()) for name, path in named_paths(config, [])]
    from tfwsss_pipelines.stages.order import STAGES

    with pytest.raises(StageError, match="MLflow's store"):
        Runner(STAGES, config).run(last="data")
    assert files(folder / "runs") == []


def test_a_run_beside_the_users_files_leaves_them(project):
    """The work directory is the project's folder; no stage that runs has the name of a folder of the user."""
    folder = project.folder
    (folder / "data").rename(folder / "pictures")
    data = {**FOLDER, "root": "pictures/photos"}
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    project({"work_dir": ".", "data": data})
    project({"work_dir": ".", "data": {**data, "max_bad_fraction": 0.4}})
    for name, content in before.items():
        assert (folder / name).read_bytes() == content, name
    with pytest.raises(StageError, match="report: holds files that stage report did not write, such as thesis.tex"):
        project({"work_dir": ".", "data": data}, last=None)


def test_a_damaged_result_is_named_and_a_missing_one_made_again(project, capsys):
    project({"work_dir": "work", "data": FOLDER})
    work = project.folder / "work"
    usable = work / "data/usable.json"
    content = usable.read_bytes()
    usable.unlink()
    project({"work_dir": "work", "data": FOLDER})
    assert usable.read_bytes() == content and "usable.json: gone; stage data makes it again" in capsys.readouterr().err
    usable.write_bytes(content.replace(b"a", b"c", 1))
    with pytest.raises(StageError, match="usable.json: changed or damaged since stage data wrote it; put it back, or .* --force"):
        project({"work_dir": "work", "data": FOLDER})
    from tfwsss_pipelines.stages.order import STAGES

    Runner(STAGES, load_config("config.yaml")).run(last="data", force=True)
    assert usable.read_bytes() == content and (work / SET_ASIDE / "data/usable.json").is_file()
    assert json.loads((work / "data" / FILES).read_text()).keys() >= {"data/usable.json", "data/digests.json"}


def test_a_photo_with_other_content_and_the_same_time_is_another_photo(project, capsys):
    import os

    project({"work_dir": "work", "data": FOLDER})
    path = project.folder / "data/photos/a.jpg"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    capsys.readouterr()
    project({"work_dir": "work", "data": FOLDER})
    assert "▶ data" in capsys.readouterr().err
    (project.folder / "data/photos/a.jpg").touch()  # another time, the same content
    project({"work_dir": "work", "data": FOLDER})
    assert "data: unchanged, reused" in capsys.readouterr().err


def test_what_a_stage_keeps_is_listed_when_it_writes_it(tmp_path):
    stage = replace(STAGE, outputs=())
    write(tmp_path, "cams/kept/old", "cams/kept/replaced")
    contents = Contents(tmp_path)
    before = contents.digests([tmp_path / "cams/kept/old", tmp_path / "cams/kept/replaced"])
    (tmp_path / "cams/kept/replaced").write_text("new")
    write(tmp_path, "cams/model")
    list_files(stage, tmp_path, contents, before)
    assert sorted(json.loads((tmp_path / "cams" / FILES).read_text())) == ["cams/kept/replaced", "cams/model"]
