"""The small form of `python -m tests.chaos.kill_shards`."""

import random

import pytest

from tests.chaos import kill_shards

pytestmark = pytest.mark.slow


def test_shards_that_were_killed_leave_what_one_process_leaves(tmp_path):
    reference = kill_shards.reference(tmp_path / "reference", 6, "affinity_labels")  # which looks at the quarantine
    said = (reference / "messages.log").read_text()
    left_out = f"  {kill_shards.POISON}: left out, killed 3 processes that had nothing else to do\n"
    assert said.count(left_out) == 2  # by the shard, and by the call that closed the stage
    assert "1 photos killed their workers and were left out" in said and "quarantined 1" in said
    stages = ("cams", "affinity_labels")
    kills, wrong = kill_shards.one_life(tmp_path / "life", reference, random.Random(1), 3, stages, 6)
    assert wrong == []
    assert kills == {"shard": 3}
