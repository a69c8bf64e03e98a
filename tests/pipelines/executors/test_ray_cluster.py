"""The executor on Ray: order, errors, deaths of actors, and photos that cause them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from tfwsss import __version__
from tfwsss.config.files import parse_config
from tfwsss.config.schema import Runtime
from tfwsss.errors import DataError, StageError
from tfwsss_pipelines.engine.context import Context, Lifetime, NoRun
from tfwsss_pipelines.engine.quarantine import PhotosLost, add_to_quarantine, read_quarantine
from tfwsss_pipelines.executors import executor as executor_module
from tfwsss_pipelines.executors.actor import Actor, Place, Worker, places, reason
from tfwsss_pipelines.executors.executor import Local, executor, executor_of
from tfwsss_pipelines.executors.ray_cluster import RayCluster
from tfwsss_pipelines.executors.ray_guard import processes_of
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.executors.work import Work

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


@dataclass(frozen=True)
class Photo:
    id: str

    @property
    def image(self) -> Path:
        return Path(f"/photos/{self.id}.jpg")


@dataclass(frozen=True)
class Noting:
    """A job that leaves a file for each photo, and a line in a log for each that it begins; some end the process, or raise."""

    folder: Path
    killing: tuple[str, ...] = ()
    exiting: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    seconds: float = 0.0
    network: bool = False

    def work(self, timing: Timing) -> Work:
        def read(photo: Photo) -> int:
            with (self.folder / "begun.log").open("a") as log:
                log.write(f"{photo.id} {os.getpid()} {len(os.sched_getaffinity(0))}\n")
            if photo.id in self.killing:
                os.kill(os.getpid(), signal.SIGKILL)
            if photo.id in self.exiting:
                os._exit(3)
            if photo.id in self.failing:
                raise DataError(f"{photo.id}: damaged")
            return int(photo.id)

        def finish(photo: Photo, value: int) -> int:
            with timing.measure("thinking"):
                time.sleep(self.seconds)
            (self.folder / f"{photo.id}.done").write_text(str(os.getpid()))
            return 2 * value

        return Work(read, finish)

    def devices(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class Counting(Noting):
    def work(self, timing: Timing) -> Work:
        return Work(lambda photo: int(photo.id), lambda photo, value: value)


@pytest.fixture
def in_this_process():
    """A worker without Ray; its threads end with the test."""
    made = []

    def make(folder: Path) -> Worker:
        made.append(Worker(str(folder), Place("here", 0, 1, 1, 0)))
        return made[-1]

    yield make
    for worker in made:
        worker.let_go(worker._turn)


def begun(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "begun.log").read_text().splitlines()]


def photos(count: int) -> list[Photo]:
    return [Photo(str(number)) for number in range(count)]


def never(photo: Photo) -> bool:
    return False


@pytest.fixture(scope="module")
def cluster():
    with executor_of(Runtime(executor="ray", cpus_per_actor=1, workers=2)) as found:
        yield found


@needs_ray
def test_results_come_in_order_from_all_cores_and_signals_stay_ours(cluster, tmp_path):
    job, timing = Noting(tmp_path, seconds=0.05), Timing()
    assert list(cluster.results(photos(60), job, timing, never)) == [2 * number for number in range(60)]
    assert sorted(int(line[0]) for line in begun(tmp_path)) == list(range(60))
    cores = len(os.sched_getaffinity(0))
    assert len({line[1] for line in begun(tmp_path)}) == cores
    assert {line[2] for line in begun(tmp_path)} == {"1"}  # cores that its libraries will see
    assert str(os.getpid()) not in {line[1] for line in begun(tmp_path)}
    assert timing.seconds()["thinking"] >= 60 * 0.05
    assert f"{cores} workers" in cluster.detail(timing) and "thinking" in cluster.detail(timing)
    assert not list(tmp_path.glob(".tfwsss-*"))
    assert "sigterm_handler" not in str(signal.getsignal(signal.SIGTERM))


@needs_ray
def test_no_other_machine_reaches_the_cluster(cluster, tmp_path):
    """Ray takes this machine's address for the loopback one, and then listens on all interfaces, unless it is kept from that."""
    list(cluster.results(photos(4), Noting(tmp_path), Timing(), never))
    listening = {}
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                listening[f"socket:[{words[9]}]"] = words[1].partition(":")[0]
    found = set()
    for process in processes_of(cluster._own):
        found |= {listening[target] for file in Path(f"/proc/{process}/fd").iterdir() if (target := os.readlink(file)) in listening}  # noqa: PTH115  (no path)
    assert found and found <= {"0100007F", "0000000000000000FFFF00000100007F"}


@needs_ray
def test_the_first_error_in_order_is_raised_as_it_is(cluster, tmp_path):
    results = cluster.results(photos(40), Noting(tmp_path, failing=("7", "9")), Timing(), never)
    found = []
    with pytest.raises(DataError, match="^7: damaged$"):
        for result in results:
            found.append(result)
    assert found == [2 * number for number in range(7)]
    assert not list(tmp_path.glob(".tfwsss-*"))


@needs_ray
def test_a_photo_that_kills_is_lost_and_all_others_are_done_once_they_are_finished(cluster, tmp_path):
    job = Noting(tmp_path, killing=("5",), exiting=("11",))
    done = {}

    def is_done(photo: Photo) -> bool:
        path = tmp_path / f"{photo.id}.done"
        if path.exists():
            done.setdefault(photo.id, path.stat().st_mtime_ns)
        return photo.id in done

    results = []
    with pytest.raises(PhotosLost) as lost:
        for result in cluster.results(photos(24), job, Timing(), is_done):
            results.append(result)
    assert [photo.id for photo in lost.value.photos] == ["5", "11"]
    for photo in lost.value.photos:
        assert photo.photo == f"/photos/{photo.id}.jpg"
        assert "killed 3 workers that had nothing else to do: Worker unexpectedly exits" in photo.reason
    assert [result for result in results if result is not None] == [2 * number for number in range(24) if number not in (5, 11) and str(number) not in done]
    assert len(results) == 22
    times = Counter(line[0] for line in begun(tmp_path))
    assert 3 <= times["5"] <= 5 and 3 <= times["11"] <= 5  # alone, and with others that may end the worker before it begins
    for id, stamp in done.items():
        assert (tmp_path / f"{id}.done").stat().st_mtime_ns == stamp

    path = add_to_quarantine(tmp_path, lost.value.photos[:1])
    assert path == add_to_quarantine(tmp_path, lost.value.photos[1:])
    assert read_quarantine(tmp_path) == list(lost.value.photos)
    assert read_quarantine(tmp_path / "other") == []


@needs_ray
def test_actors_that_others_kill_cost_no_photo(cluster, tmp_path):
    results = iter(cluster.results(photos(60), Noting(tmp_path, seconds=0.2), Timing(), lambda photo: (tmp_path / f"{photo.id}.done").exists()))
    found = [next(results)]
    killed: set[int] = set()
    while len(killed) < 2:
        worker = int(begun(tmp_path)[-1][1])  # the last line may still be of one that is dead
        if worker not in killed:
            killed.add(worker)
            os.kill(worker, signal.SIGKILL)
        found += [next(results) for _ in range(5)]
    found += list(results)
    assert len(found) == 60 and all(result in (None, 2 * number) for number, result in enumerate(found))
    assert len(list(tmp_path.glob("*.done"))) == 60


def test_a_worker_that_is_late_for_a_job_does_the_next_one(tmp_path, monkeypatch, in_this_process):
    """Jobs may follow each other so fast that an actor is told of two before it has begun with the first."""
    monkeypatch.chdir(tmp_path)  # where a worker goes, too
    worker = in_this_process(tmp_path)
    (tmp_path / "mark").touch()
    worker.begin(2, Counting(tmp_path), 1, __version__, tmp_path / "mark")
    worker.begin(1, Noting(tmp_path, failing=("3",)), 1, __version__, tmp_path / "mark")
    assert worker.do(2, photos(4)).results == [0, 1, 2, 3]
    with pytest.raises(AssertionError):
        worker.do(1, photos(4))


def test_stages_of_a_command_share_its_executor_which_rests_between_them(monkeypatch, tmp_path):
    said = []

    class Saying(Local):
        def __enter__(self):
            said.append("begins")
            return self

        def __exit__(self, *error):
            said.append("ends")

        def rest(self):
            said.append("rests")

    monkeypatch.setattr(executor_module, "executor_of", Saying)
    config = parse_config({"data": {"format": "scenes"}})
    with pytest.raises(StageError), Lifetime() as command:
        for number in range(2):
            with Context(config, tmp_path, NoRun(), command=command) as context:
                assert context.kept(executor) is context.kept(executor)
                if number:
                    raise StageError("broke")
    assert said == ["begins", "rests", "rests", "ends"]


class Network:
    """In place of one: only whether it is still there matters."""


@dataclass(frozen=True)
class Networked(Noting):
    made: ClassVar[list[weakref.ref]] = []

    def work(self, timing: Timing) -> Work:
        def on_device(name: str):
            network = Network()
            network.itself = network  # as Keras's refer to themselves
            self.made.append(weakref.ref(network))
            return lambda loaded: [network is not None for _ in loaded]

        return Work(lambda photo: photo, lambda photo, computed: computed, on_device)

    def devices(self) -> tuple[str, ...]:
        return ("/CPU:0",)


def test_a_worker_that_rests_has_no_network(tmp_path, monkeypatch, in_this_process):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Networked, "made", [])
    worker = in_this_process(tmp_path)
    (tmp_path / "mark").touch()
    worker.begin(1, Networked(tmp_path), 1, __version__, tmp_path / "mark")
    assert worker.do(1, photos(3)).results == [True] * 3
    worker.let_go(1)
    assert [network() for network in Networked.made] == [None]
    worker.begin(1, Networked(tmp_path), 1, __version__, tmp_path / "gone")  # late, when all has been done by others
    worker.begin(3, Networked(tmp_path), 1, __version__, tmp_path / "mark")
    worker.let_go(2)
    assert worker.do(3, photos(3)).results == [True] * 3 and len(Networked.made) == 2


@needs_ray
def test_a_cluster_of_ours_keeps_its_workers_between_stages(cluster, tmp_path):
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        assert len(list(cluster.results(photos(60), Noting(tmp_path / str(number), seconds=0.05), Timing(), never))) == 60
        folder = cluster._own
        cluster.rest()
        assert cluster._own == folder
    assert {line[1] for line in begun(tmp_path / "0")} == {line[1] for line in begun(tmp_path / "1")}


@needs_ray
def test_a_cluster_that_dies_while_it_rests_is_started_again(cluster, tmp_path):
    list(cluster.results(photos(4), Noting(tmp_path), Timing(), never))
    cluster.rest()
    for process in processes_of(cluster._own):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert len(list(cluster.results(photos(60), Noting(tmp_path), Timing(), never))) == 60
    # What is left of the first connection would end this process, by default after a minute, whatever it does then.
    assert int(os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"]) > 30 * 24 * 3600


def test_of_gpus_and_of_a_cluster_of_others_nothing_is_kept():
    class Handle:
        def __init__(self):
            self.let_go = self

        def remote(self, turn):
            self.turn = turn

    cluster = RayCluster(Runtime())
    cluster._own, cluster.turn = Path("/tmp/own"), 7
    keeping, with_gpu, at_work = (Actor(Place("here", 0, 1, 1, gpus), Handle(), None, calls) for gpus, calls in ((0, {}), (1, {}), (0, {"answer": [3]})))
    cluster.actors = [keeping, with_gpu, at_work]
    cluster.rest()
    assert cluster.actors == [keeping] and keeping.handle.turn == 7
    cluster._own, stopped = None, []
    cluster.stop = lambda: stopped.append(True)
    cluster.rest()
    assert stopped == [True]


@needs_ray
def test_a_folder_that_workers_do_not_see(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "touch", lambda path: None)  # the file that they look for
    results = cluster.results(photos(3), Noting(tmp_path), Timing(), never)
    with pytest.raises(StageError, match="not seen by all machines of the Ray cluster"):
        list(results)


def test_addresses_that_cannot_be_used(monkeypatch):
    monkeypatch.setattr("tfwsss_pipelines.preflight.executor.find_spec", lambda name: name)
    with pytest.raises(StageError, match="ray:// is for programs outside a cluster"), executor_of(Runtime(executor="ray", ray_address="ray://there:1")):
        pass


def test_without_ray_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr("tfwsss_pipelines.preflight.executor.find_spec", lambda name: None)
    with pytest.raises(StageError, match=re.escape("pip install 'tfwsss[ray]'")), executor_of(Runtime(executor="ray")):
        pass


def test_the_local_executor_is_the_engine_of_this_process(tmp_path):
    with executor_of(Runtime(workers=2)) as local:
        assert isinstance(local, Local)
        assert list(local.results(photos(20), Noting(tmp_path), Timing(), never)) == [2 * number for number in range(20)]
    assert {line[1] for line in begun(tmp_path)} == {str(os.getpid())}


def node(name: str, cores: float, gpus: float = 0.0) -> dict:
    return {"NodeID": name, "Resources": {"CPU": cores, **({"GPU": gpus} if gpus else {}), "memory": 1e9}}


@pytest.mark.parametrize(
    ("nodes", "network", "options", "expected"),
    [
        ([node("a", 8)], False, {}, [("a", 0, 1, 8, 0)]),
        ([node("a", 8), node("b", 3)], True, {"cpus_per_actor": 4}, [("a", 0, 2, 4, 0), ("a", 1, 2, 4, 0), ("b", 0, 1, 3, 0)]),
        ([node("a", 8, 2), node("b", 8)], True, {}, [("a", 0, 2, 4, 1), ("a", 1, 2, 4, 1)]),
        ([node("a", 8, 2), node("b", 8)], False, {}, [("a", 0, 1, 8, 0), ("b", 0, 1, 8, 0)]),
        ([node("a", 8, 2)], True, {"inference": "onnxruntime"}, [("a", 0, 1, 8, 0)]),
        ([node("head", 0), node("a", 2)], True, {}, [("a", 0, 1, 2, 0)]),
        ([node("a", 1, 4)], True, {}, [("a", slot, 4, 1, 1) for slot in range(4)]),
    ],
)
def test_actors_live_where_their_work_fits(nodes, network, options, expected):
    assert places(nodes, network, Runtime.model_construct(**({"inference": "auto", "cpus_per_actor": 0} | options))) == [Place(*one) for one in expected]


def test_what_ray_says_of_a_death_in_one_line():
    said = "The actor died.\n\tpid: 7\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits with code 3. Some common causes include: (1) x"
    assert reason(RuntimeError(said)) == "Worker exits with code 3."
    assert reason(RuntimeError("Task was killed due to the node running low on memory.\nmore")) == "not enough memory"
