"""The engine of per-photo work: order, bounds, batches, devices, errors, interruption."""

import _thread
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss_pipelines.executors.threads import Engine, run_images
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.executors.work import Work


def doubling(**changes):
    values = {"read": lambda item: item, "finish": lambda item, value: (item, value), "on_device": lambda name: lambda batch: [2 * one for one in batch]}
    return Work(**(values | changes))


@settings(deadline=None, max_examples=25)
@given(
    delays=st.lists(st.integers(0, 3), max_size=30),
    workers=st.integers(1, 4),
    batch=st.integers(1, 5),
    groups=st.integers(1, 3),
    devices=st.integers(0, 3),
)
def test_results_come_in_order_however_long_each_takes(delays, workers, batch, groups, devices):
    def read(item):
        time.sleep(delays[item] / 1000)
        return item

    def finish(item, value):
        time.sleep(delays[-item] / 2000)
        return item, value

    work = doubling(read=read, finish=finish, group=lambda value: value % groups, batch=batch)
    if not devices:
        work = Work(read, finish)
    names = tuple(f"/CPU:{index}" for index in range(devices))
    factor = 2 if devices else 1
    assert list(run_images(range(len(delays)), work, workers=workers, devices=names)) == [(i, factor * i) for i in range(len(delays))]


def test_batches_hold_one_group_and_no_more_than_allowed():
    seen = []

    def on_device(name):
        def compute(batch):
            seen.append(list(batch))
            time.sleep(0.005)  # others are read meanwhile
            return batch

        return compute

    list(run_images(range(40), doubling(on_device=on_device, group=lambda value: value % 2, batch=3), workers=2))
    assert sorted(value for batch in seen for value in batch) == list(range(40))
    assert max(map(len, seen)) == 3
    assert all(len({value % 2 for value in batch}) == 1 for batch in seen)


def test_every_device_is_used_and_opened_once_in_its_thread():
    opened, used = [], []
    both = threading.Barrier(2, timeout=10)

    def on_device(name):
        opened.append((name, threading.get_ident()))

        def compute(batch):
            used.append((name, threading.get_ident()))
            if len(used) <= 2:
                both.wait()  # neither goes on before the other has begun
            return batch

        return compute

    list(run_images(range(20), doubling(on_device=on_device), workers=2, devices=("/CPU:0", "/CPU:1")))
    assert sorted(name for name, _ in opened) == ["/CPU:0", "/CPU:1"]
    assert set(used) == set(opened)


def test_photos_under_way_are_bounded_while_nobody_takes_results():
    begun = []
    results = run_images(iter(lambda: len(begun), 10_000), doubling(read=lambda item: begun.append(item) or item), workers=2)
    next(results)
    time.sleep(0.2)
    assert len(begun) < 20
    results.close()
    assert len(begun) < 20


@pytest.mark.parametrize("step", ["read", "on_device", "compute", "finish"])
def test_the_first_error_in_order_is_raised_and_nothing_begins_after_it(step):
    finished = []

    def fails(value):
        if value >= 30:
            time.sleep(0.01 if value == 30 else 0)  # later ones fail earlier
            raise OSError(f"photo {value}")
        return value

    def on_device(name):
        if step == "on_device":
            raise OSError("photo 30")
        return lambda batch: [fails(one) if step == "compute" else one for one in batch]

    def finish(item, value):
        if step == "finish":
            fails(item)
        finished.append(item)

    work = doubling(read=fails if step == "read" else lambda item: item, on_device=on_device, finish=finish)
    with pytest.raises(OSError, match="^photo 30$"):
        list(run_images(range(1000), work, workers=2))
    assert len(finished) < 60
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "finisher", "device"))]


@pytest.mark.parametrize("wrong", [[], [1, 2]])
def test_a_device_that_loses_a_photo_is_noticed(wrong):
    with pytest.raises(ValueError, match=f"got 1 photos and returned {len(wrong)}"):
        list(run_images([1], doubling(on_device=lambda name: lambda batch: wrong), workers=1))


def test_a_worker_that_exits_does_not_leave_the_others_waiting():
    def finish(item, value):
        if item == 5:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        list(run_images(range(100), doubling(finish=finish), workers=2))


def test_interrupting_ends_all_threads_and_lets_a_file_be_finished():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a program that was started by hand
    writing, written = threading.Event(), []

    def finish(item, value):
        writing.set()
        time.sleep(0.05)
        written.append(item)

    def interrupt():
        writing.wait()
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_images(range(1000), doubling(finish=finish), workers=2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert written and len(written) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reader", "finisher", "device"))]


def test_reading_computing_and_finishing_overlap():
    running, together = set(), set()
    lock = threading.Lock()

    def busy(kind):
        with lock:
            running.add(kind)
            together.add(frozenset(running))
        time.sleep(0.01)
        with lock:
            running.discard(kind)

    work = Work(
        lambda item: busy("read") or item,
        lambda item, value: busy("finish"),
        lambda name: lambda batch: [busy("device") or one for one in batch],
    )
    list(run_images(range(30), work, workers=1))
    assert frozenset({"read", "device", "finish"}) in together


def test_time_is_counted_by_kind_and_inner_kinds_leave_the_outer():
    timing = Timing()

    def finish(item, value):
        time.sleep(0.01)
        with timing.measure("CRF"):
            time.sleep(0.03)

    list(run_images(range(4), doubling(read=lambda item: time.sleep(0.02), on_device=lambda name: lambda batch: batch, finish=finish), workers=2, timing=timing))
    seconds = timing.seconds()
    assert set(seconds) == {"CRF", "reading", "finishing", "device", "waiting"}
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    assert seconds["CRF"] >= 0.12 and 0.04 <= seconds["finishing"] < seconds["CRF"]
    assert seconds["waiting"] >= 0.02 > seconds["device"]  # until the first photo is read
    assert "CRF " in timing.shares() and "waiting " in timing.shares()


def test_an_engine_that_is_made_ready_has_its_devices_before_the_first_photo():
    made = []

    def on_device(name):
        made.append(name)
        return lambda batch: [2 * one for one in batch]

    engine = Engine(doubling(on_device=on_device), 1, ("/CPU:0", "/CPU:1")).start_ready()
    try:
        assert sorted(made) == ["/CPU:0", "/CPU:1"]
        assert list(engine.results(range(9))) == list(engine.results(range(9))) == [(item, 2 * item) for item in range(9)]
    finally:
        engine.__exit__()
    assert len(made) == 2


def test_an_engine_whose_device_cannot_be_made_ready_says_why():
    def on_device(name):
        raise MemoryError(name)

    engine = Engine(doubling(on_device=on_device), 1)
    with pytest.raises(MemoryError, match="/CPU:0"):
        engine.start_ready()
    engine.__exit__()


def test_seconds_of_others_are_added_and_ours_are_taken():
    timing = Timing()
    with timing.measure("CRF"):
        pass
    timing.add({"CRF": 2.0, "walk": 1.0})
    assert timing.seconds() == {"CRF": pytest.approx(2.0, abs=0.1), "walk": 1.0}
    assert timing.take()["walk"] == 1.0
    assert timing.take() == timing.seconds() == {}
