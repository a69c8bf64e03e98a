"""Shards: processes that know nothing of each other leave together what one process leaves."""

import fcntl
import shutil
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import environment_with
from tests.pipelines.conftest import DRIVER
from tests.pipelines.warm_start import forked
from tfwsss.errors import StageError
from tfwsss.storage.atomic import read_json
from tfwsss_pipelines.engine.sharing import Closing, Share, shard_of


def photos(ids):
    return [SimpleNamespace(id=id) for id in ids]


@given(st.lists(st.text(max_size=8), unique=True, max_size=50), st.integers(1, 7))
def test_every_photo_is_taken_once_by_the_same_shard_whatever_else_is_missing(ids, count):
    shares = [Share(number, count) for number in range(1, count + 1)]
    taken = {photo.id: share.number for share in shares for photo in share.take(photos(ids))}
    assert sorted(taken) == sorted(ids)
    assert sum(len(share.take(photos(ids))) for share in shares) == len(ids)
    assert all([photo.id for photo in Share(number, count).take(photos([id]))] == [id] for id, number in taken.items())


def test_shards_are_of_like_size():
    sizes = Counter(shard_of(f"folder/photo_{number:06}", 8) for number in range(80_000))
    assert sorted(sizes) == list(range(1, 9))
    assert max(sizes.values()) - min(sizes.values()) < 600  # three deviations of a fair draw


@pytest.mark.parametrize("text", ["0/3", "4/3", "1/0", "1", "1/3/3", "a/b", "-1/3", " 1/3", "1/3 "])
def test_shards_that_do_not_exist(text):
    with pytest.raises(ValueError, match="expected I/N"):
        Share.parse(text)


def test_the_closing_call_says_whose_photos_are_missing():
    assert Closing("cams", 3).take([]) == []
    ids = [f"photo{number}" for number in range(20)]
    with pytest.raises(StageError, match="stage cams: 20 photos are missing") as error:
        Closing("cams", 3).take(photos(ids))
    for number in (1, 2, 3):
        own = [id for id in ids if shard_of(id, 3) == number]
        assert f"shard {number}/3: {len(own)} ({own[0]}, {own[1]}, {own[2]}, ...)" in str(error.value)


@pytest.fixture(scope="module")
def trained(finished, tmp_path_factory) -> Path:
    """A folder with a work directory in which the classifier has been trained and nothing after it."""
    folder = tmp_path_factory.mktemp("shards")
    for name in ("data", "scenes", "classifier"):
        shutil.copytree(finished / name, folder / "work" / name)
    return folder


def files(folder: Path, suffix: str) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob(f"*{suffix}") if not path.name.startswith(".")}


def test_three_shards_of_which_one_is_killed(trained, finished, tiny_config, tmp_path, cli):
    def run(*arguments, name="", driver=()):
        logs = tmp_path / name
        logs.mkdir(exist_ok=True)
        words = (arguments[0], str(tiny_config), "--work-dir", "work", *arguments[1:])
        if arguments[0] == "stage":
            words = ("stage", arguments[1], str(tiny_config), "--work-dir", "work", *arguments[2:])
        environment = environment_with(tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
        return forked(trained, str(DRIVER) if driver else "tfwsss_pipelines.cli", (*driver, *words), environment, logs)

    too_early = run("stage", "cams", "--close")
    assert too_early.returncode == 2 and "no shard has begun it" in too_early.stderr
    whole = run("stage", "classifier", "--shard", "1/3")
    assert whole.returncode == 0 and "all stages have finished" in whole.stderr

    # The largest shard is killed when its first photo is done; the others go on.
    ids = [name.removesuffix(".npz") for name in files(finished / "cams", ".npz")]
    sizes = Counter(shard_of(id, 3) for id in ids)
    victim = max(sizes, key=sizes.__getitem__)
    done = {}
    shards = [
        threading.Thread(target=lambda number=number: done.update({number: run("stage", "cams", "--shard", f"{number}/3", name=f"shard{number}", driver=("cams", "1", str(tmp_path / "log")) if number == victim else ())}))
        for number in (1, 2, 3)
    ]
    for shard in shards:
        shard.start()
    for shard in shards:
        shard.join()
    assert {number: one.returncode for number, one in done.items()} == {number: -9 if number == victim else 0 for number in (1, 2, 3)}, [one.stderr for one in done.values()]
    cams = trained / "work/cams"
    before = files(cams, ".npz")
    assert sizes.total() - sizes[victim] < len(before) < len(ids)
    incomplete = run("stage", "cams", "--close")
    assert incomplete.returncode == 2
    assert f"stage cams: {len(ids) - len(before)} photos are missing" in incomplete.stderr and f"shard {victim}/3: " in incomplete.stderr
    assert not read_json(cams / "stage.json")["finished"]

    again = run("run", "--shard", f"{victim}/3")
    assert again.returncode == 0, again.stderr
    assert {name: stamp for name, stamp in files(cams, ".npz").items() if name in before} == before  # nothing is done twice
    closed = run("stage", "cams", "--close")
    assert closed.returncode == 0, closed.stderr
    record = read_json(cams / "stage.json")
    assert record["finished"] and record["metrics"] == {"images": len(ids), "computed": 0} and record["run_id"]
    assert record["fingerprint"] == read_json(finished / "cams/stage.json")["fingerprint"]
    for id in ids:
        assert (cams / f"{id}.npz").read_bytes() == (finished / f"cams/{id}.npz").read_bytes()
    assert not list(cams.rglob(".tfwsss-*"))

    # The next stage needs something of all photos first, which the shards make once.
    for number in (1, 2):
        assert run("run", "--shard", f"{number}/2").returncode == 0
    closed = run("stage", "affinity_labels", "--close")
    assert closed.returncode == 0, closed.stderr
    for path in (*(f"{id}.png" for id in ids), "alphas.json"):
        assert (trained / "work/affinity_labels" / path).read_bytes() == (finished / "affinity_labels" / path).read_bytes()
    refused = run("run", "--shard", "1/2")
    assert refused.returncode == 2 and "stage affinitynet is not made photo by photo" in refused.stderr

    # Nobody works beside a run, and no run beside a shard.
    with (trained / "work/.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert "another tfwsss process" in run("run", "--until", "cams").stderr
        others = run("stage", "affinity_labels", "--shard", "1/2", "--set", "seed=0", "--set", "affinity_labels.alphas=psa-cvpr")
        assert others.returncode == 2 and "other shards are at work" in others.stderr
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "a tfwsss run that is no shard is working" in run("run", "--shard", "1/2").stderr


@pytest.mark.parametrize("words", [("--shard", "1/2", "--force"), ("--shard", "1/2", "--close"), ("--close", "--force")])
def test_options_that_exclude_each_other(cli, tiny_config, tmp_path, words):
    refused = cli(tmp_path, "stage", "cams", str(tiny_config), *words)
    assert refused.returncode == 2 and "exclude each other" in refused.stderr
