"""Workers."""

import ctypes
import threading
import time

from tfwsss.processes import CHUNK, isolated_map, map_in_threads


def test_a_crash_in_native_code_costs_only_its_own_call():
    deadly = {5, 6, CHUNK + 3}
    tasks = [(0 if index in deadly else b"%d" % index,) for index in range(2 * CHUNK)]
    results = dict(isolated_map(ctypes.string_at, tasks, workers=2))  # reading address 0 ends a process
    assert results == {index: (None if index in deadly else b"%d" % index) for index in range(2 * CHUNK)}


def test_threads_work_together_and_keep_the_order():
    together = threading.Barrier(3)

    def name(index):
        together.wait(60)  # three at a time, or never
        time.sleep(0.01 * (5 - index))
        return index

    assert list(map_in_threads(name, ((index,) for index in range(6)), 3)) == list(range(6))
