"""Photos that kill the process of a shard: found by what it noted before its death, and lost when they have done it three times."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipelines.executors.test_ray_cluster import Noting, begun, never, photos
from tfwsss.config.schema import Runtime
from tfwsss.errors import DataError
from tfwsss.storage.atomic import is_temporary
from tfwsss_pipelines.engine.quarantine import PhotosLost
from tfwsss_pipelines.engine.sharing import Share
from tfwsss_pipelines.executors import attempts as module
from tfwsss_pipelines.executors.attempts import Attempts
from tfwsss_pipelines.executors.shard import Shard, notes_of
from tfwsss_pipelines.executors.timing import Timing

COUNT, KILLING, EXITING = 40, "5", "11"


def one_start(folder: Path) -> None:
    """Body of a process: a shard that does what is missing, and writes down what it has lost."""
    job = Noting(folder, killing=(KILLING,), exiting=(EXITING,), seconds=0.01)
    todo = [photo for photo in photos(COUNT) if not (folder / f"{photo.id}.done").exists()]
    with Shard(Runtime(workers=2), folder / "notes") as shard:
        try:
            for _ in shard.results(todo, job, Timing(), never):
                pass
        except PhotosLost as error:
            (folder / "lost.json").write_text(json.dumps(error.photos))


def test_photos_that_kill_their_shard_are_lost_and_the_others_are_done_once(tmp_path):
    forking = multiprocessing.get_context("fork")  # imports take longer than the rest
    stamps: dict[Path, int] = {}
    codes = []
    while not codes or codes[-1]:
        process = forking.Process(target=one_start, args=(tmp_path,))
        process.start()
        process.join()
        codes.append(process.exitcode)
        for path in tmp_path.glob("*.done"):
            stamps.setdefault(path, path.stat().st_mtime_ns)
        assert len(codes) < 12
    lost = json.loads((tmp_path / "lost.json").read_text())
    assert lost == [[id, f"/photos/{id}.jpg", "killed 3 processes that had nothing else to do"] for id in (KILLING, EXITING)]
    assert Counter(codes) in [Counter({-signal.SIGKILL: kills, 3: exits, 0: 1}) for kills in (3, 4) for exits in (3, 4) if kills + exits in (7, 8)]
    assert len(stamps) == COUNT - 2 and all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    begins = Counter(line[0] for line in begun(tmp_path))
    assert 3 <= begins.pop(KILLING) <= 5 and 3 <= begins.pop(EXITING) <= 5
    assert max(begins.values()) <= 2  # once more only where it was under way when another one killed
    assert not (tmp_path / "notes").exists()


def test_a_process_that_ends_by_itself_accuses_no_photo(tmp_path):
    job = Noting(tmp_path, failing=("7",))
    with pytest.raises(DataError, match="^7: damaged$"), Shard(Runtime(workers=2), tmp_path / "notes") as shard:
        list(shard.results(photos(30), job, Timing(), never))
    assert (tmp_path / "notes").read_bytes() == b""
    with Shard(Runtime(workers=2), tmp_path / "notes") as shard:
        assert list(shard.results(photos(30), Noting(tmp_path), Timing(), never)) == [2 * number for number in range(30)]
    assert not (tmp_path / "notes").exists()


def test_results_keep_their_order_where_suspects_come_first(tmp_path, capsys):
    (tmp_path / "notes").write_text('["suspect", "20", 2]\n["begun", "12", false]\n["begun", "3", true]\n')
    with Shard(Runtime(workers=2), tmp_path / "notes") as shard:
        assert list(shard.results(photos(30), Noting(tmp_path), Timing(), never)) == [2 * number for number in range(30)]
    assert [line[0] for line in begun(tmp_path)][:3] == ["3", "12", "20"]
    assert "3 photos were under way when a process of this shard died" in " ".join(capsys.readouterr().err.split())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abcd\ud800"), st.booleans(), st.booleans()), max_size=30), st.integers(1, 5))
def test_what_was_under_way_at_a_death_is_found(tmp_path_factory, lives, most):
    """Each life begins some photos, ends a part of them, and dies; `most` lines make the file be written anew all the time."""
    path = tmp_path_factory.mktemp("notes") / "notes"
    expected: dict[str, int] = {}
    before, module.MOST_LINES = module.MOST_LINES, most
    try:
        for id, alone, ends in lives:
            life = Attempts(path).__enter__()
            assert life.suspects == expected
            life.begun(id, alone)
            if ends:
                life.ended(id)
                expected.pop(id, None)
            else:
                expected[id] = expected.get(id, 0) + alone
            life._file.close()  # as of a process that was killed
            if not ends:
                with path.open("ab") as file:
                    file.write(b'["begun", "to')  # in the middle of a line
        with Attempts(path) as last:
            assert last.suspects == expected
    finally:
        module.MOST_LINES = before
    assert not path.exists()


def test_a_second_process_of_a_shard_takes_no_notes(tmp_path):
    """It may be there while the first one ends: what that one has under way has killed nobody."""
    with Attempts(tmp_path / "notes") as first:
        first.begun("a", alone=True)
        with Attempts(tmp_path / "notes") as second:
            assert second.suspects == {}
            second.begun("b")
            second.ended("b")
        assert [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()] == [["begun", "a", True]]


def test_notes_go_with_what_a_killed_process_leaves(tmp_path):
    names = {notes_of(tmp_path, Share(number, count)).name for count in (1, 2, 3) for number in range(1, count + 1)}
    assert len(names) == 6 and all(is_temporary(name) for name in names)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    with Attempts(tmp_path / "notes") as notes:
        kept, notes._file = notes._file, open("/dev/full", "r+b", buffering=0)  # noqa: PTH123, SIM115
        with pytest.raises(OSError, match="No space left on device") as error:
            notes.begun("a")
        assert error.value.filename == str(tmp_path / "notes")
        notes._file.close()
        notes._file = kept
