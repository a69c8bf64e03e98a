"""Workers."""

import ctypes

from tfwsss.processes import CHUNK, isolated_map


def test_a_crash_in_native_code_costs_only_its_own_call():
    deadly = {5, 6, CHUNK + 3}
    tasks = [(0 if index in deadly else b"%d" % index,) for index in range(2 * CHUNK)]
    results = dict(isolated_map(ctypes.string_at, tasks, workers=2))  # reading address 0 ends a process
    assert results == {index: (None if index in deadly else b"%d" % index) for index in range(2 * CHUNK)}
